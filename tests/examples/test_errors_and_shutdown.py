"""The examples in difficult moments: mistakes of users, and the stop of the server."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from tests.examples.conftest import EXAMPLES
from tests.examples.test_verification import JPEG, Caller, wait_until_waiting
from tests.webhooks.conftest import under_uvicorn
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import ModuleType

    from tests.examples.conftest import Programs

pytestmark = pytest.mark.anyio

UNKNOWN = "8f0d1ab6-5d5b-4a0e-9f8e-0123456789ab"


@pytest.fixture(params=["fastapi"])
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import an example by its path, outside of an event loop, which the import would block."""
    name = f"{request.param}_app"
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # frameworks look up annotations by the module's name
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def app(
    example: ModuleType, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """Serve an example in this process, and return its URL."""
    for variable, value in {**sandbox.environ, "VERIFF_INBOX": str(tmp_path / "inbox.db")}.items():
        monkeypatch.setenv(variable, value)
    async with under_uvicorn(example.create_app()) as server:
        yield f"http://127.0.0.1:{server.port}"


async def too_large() -> AsyncIterator[bytes]:
    """Yield a file that is larger than Veriff accepts."""
    yield JPEG
    for _ in range(19):
        yield bytes(1_000_000)


async def test_mistake_of_the_user_is_4xx(app: str) -> None:
    """Each mistake of a user gets a 4xx response that says why, and the next request is served."""
    async with Caller(app) as user:
        session_id = str((await user.call("POST", "/sessions?user_id=user-42"))["id"])
        front = f"/sessions/{session_id}/media/document-front"
        requests: list[tuple[str, str, bytes | AsyncIterator[bytes] | None]] = [
            ("POST", "/sessions", None),
            ("POST", f"/sessions?user_id={'x' * 1001}", None),
            ("PUT", front, b"a text, and no picture"),
            ("PUT", front, b""),
            ("PUT", front, None),
            ("PUT", front, too_large()),
            ("PUT", f"/sessions/{session_id}/media/holiday", JPEG),
            ("PUT", f"/sessions/{session_id}/media/%00", JPEG),
            ("PUT", f"/sessions/{UNKNOWN}/media/face", JPEG),
            ("PUT", "/sessions/no%20id/media/face", JPEG),
            ("PUT", "/sessions/..%2F..%2Fattempts/media/face", JPEG),
            ("POST", f"/sessions/{UNKNOWN}/submit", None),
            ("POST", "/sessions/no%20id/submit", None),
            ("GET", "/sessions/no%20id/decision", None),
        ]
        for method, path, data in requests:
            async with user.http.request(method, path, data=data) as answer:
                assert 400 <= answer.status < 500, (method, path, answer.status)
                assert await answer.text()

        await user.call("PUT", front, JPEG)
        await user.call("POST", f"/sessions/{session_id}/submit")
        async with user.http.post(f"/sessions/{session_id}/submit") as again:
            assert 400 <= again.status < 500


@pytest.mark.parametrize("name", ["fastapi"])
async def test_stop_ends_requests_that_wait(programs: Programs, name: str) -> None:
    """A stopping server responds with 503 to requests that wait for a decision, and then exits."""
    async with Sandbox() as sandbox:
        async with programs(name, sandbox.environ) as url:
            user = Caller(url)
            session_id = await user.submit_session()
            pid = (await user.call("GET", "/health"))["pid"]
            assert isinstance(pid, int)
            wait = asyncio.create_task(user.http.get(f"/sessions/{session_id}/decision"))
            await wait_until_waiting(url, pid)
        # The program is asked to stop by the end of the block, which is reached once it has ended.
        async with user, await wait as answer:
            assert (503, "1") == (answer.status, answer.headers["Retry-After"])
