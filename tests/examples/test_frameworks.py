"""Each example accepts Veriff's webhooks, refuses others, and verifies the raw bytes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import ClientSession

from tests.examples.web import WEBHOOKS, Programs, check_webhooks
from veriff_async import Credentials
from veriff_async.inbox import SqliteInbox

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

ENVIRON: Final = {"VERIFF_API_KEY": "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "VERIFF_SHARED_SECRET": "new,old"}
# White space, an escape and a letter beyond ASCII: written again by a framework it would not be the same.
BODY: Final = '{"id" : "8f0d1ab6", "action":"started","code":7001,\n "vendorData":"\\u00e9é" }\n'.encode()


def sign_headers(body: bytes, *, secret: str = ENVIRON["VERIFF_SHARED_SECRET"][:3]) -> dict[str, str]:
    """Return the headers of a webhook with its signature."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "X-AUTH-CLIENT": ENVIRON["VERIFF_API_KEY"],
        "X-HMAC-SIGNATURE": signature,
        "Content-Type": "application/json",
    }


async def too_large(port: int) -> int:
    """Announce a large body, and return the status."""
    head = ["POST /webhooks/veriff HTTP/1.1", "Host: localhost", "Content-Length: 1048577"]
    head += [f"{name}: {value}" for name, value in sign_headers(BODY).items()]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([*head, "", ""]).encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    return int(status)


@pytest.mark.parametrize("name", ["flask", "quart", "starlette"])
async def test_framework_receives_webhooks(tmp_path: Path, without_coverage: None, name: str) -> None:
    """A webhook signed over its raw bytes is recorded with 200; others get their status and are not recorded."""
    programs = Programs(tmp_path, {**ENVIRON, "VERIFF_BASE_URL": "http://127.0.0.1:9"})
    requests = [
        (200, "POST", BODY, sign_headers(BODY)),
        (200, "POST", BODY, sign_headers(BODY)),
        (401, "POST", BODY, sign_headers(BODY, secret="other")),
        (401, "POST", BODY.strip(), sign_headers(BODY)),
        (400, "POST", b"{", sign_headers(b"{")),
        (405, "GET", b"", {}),
        (415, "POST", BODY, {**sign_headers(BODY), "Content-Type": "text/plain"}),
    ]
    async with programs.start(name) as program, ClientSession() as http:
        for status, method, body, headers in requests:
            async with http.request(method, program.url + WEBHOOKS, data=body or None, headers=headers) as answer:
                assert status == answer.status, await answer.text()
        assert 413 == await too_large(program.port)
        async with SqliteInbox(tmp_path / "inbox.db") as inbox:
            assert ["8f0d1ab6"] == [event.session_id for event in await inbox.get_events("8f0d1ab6")]
            assert () == await inbox.get_events(None)
        await check_webhooks(program.url, Credentials.from_env(ENVIRON))
