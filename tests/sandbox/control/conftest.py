"""A client of the control API that shares no code with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from attrs import frozen

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, Reply


@frozen
class Control:
    """Sends requests to the control API of a sandbox."""

    caller: Caller

    async def send(self, method: str, path: str, body: object = None) -> Reply:
        """Send JSON, or nothing."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        return await self.caller.send(method, f"/_sandbox/api{path}", data=data, headers=headers)

    async def do(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  any JSON
        """Send a request that succeeds, and return its result."""
        reply = await self.send(method, path, body)
        assert 200 == reply.status, reply.body
        return reply.json

    async def refused(self, method: str, path: str, body: object = None) -> tuple[int, str, str | None]:
        """Send a request that is refused, and return status, message and field."""
        reply = await self.send(method, path, body)
        error = reply.json["error"]
        assert {"code", "message", "field"} == set(error)
        assert error["message"].endswith((".", "?"))
        return reply.status, error["message"], error["field"]


@pytest.fixture
async def control(caller: Caller) -> Control:
    """Return a client of the control API of a sandbox with a virtual clock."""
    return Control(caller)
