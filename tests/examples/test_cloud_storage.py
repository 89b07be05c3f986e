"""The recipe for cloud storage streams objects of S3 and Google Cloud Storage into uploads, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web
from anyio import to_thread
from PIL import Image

from tests.examples.conftest import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

PATHS: Final = {"s3": "/bucket/{key:.*}", "gs": "/storage/v1/b/bucket/o/{key}"}
CLIENTS: Final = {"s3": "aiobotocore", "gs": "gcloud"}


def large_jpeg() -> bytes:
    """Return a picture of more than 256 KiB, which is spooled to a file."""
    out = io.BytesIO()
    Image.effect_noise((1000, 700), 90).save(out, "JPEG", quality=90)
    assert len(out.getvalue()) > 300_000
    return out.getvalue()


OBJECTS: Final = {"ada/front.jpg": large_jpeg(), "ada/selfie.jpg": large_jpeg()}


@pytest.fixture
async def storage_url() -> AsyncIterator[str]:
    """Serve objects as S3 (GetObject) and Google Cloud Storage (objects.get with alt=media) do, in small pieces."""

    async def get_object(request: web.Request) -> web.StreamResponse:
        content = OBJECTS[request.match_info["key"]]
        response = web.StreamResponse(headers={"Content-Length": str(len(content)), "ETag": '"1"'})
        await response.prepare(request)
        for at in range(0, len(content), 50_000):
            await response.write(content[at : at + 50_000])
            await asyncio.sleep(0)
        return response

    app = web.Application()
    for path in PATHS.values():
        app.router.add_get(path, get_object)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("kind", CLIENTS)
async def test_objects_are_streamed_into_uploads(
    sandbox: Sandbox, storage_url: str, kind: str, without_coverage: None
) -> None:
    """Each object arrives at Veriff byte for byte, and the session is submitted."""
    if find_spec(CLIENTS[kind]) is None:
        pytest.skip(f"{CLIENTS[kind]} of the extra dev is not installed")
    environ = {
        **os.environ,
        **sandbox.environ,
        "AWS_ENDPOINT_URL": storage_url,
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "STORAGE_EMULATOR_HOST": storage_url,
    }
    pictures = [f"{context}={key}" for context, key in zip(("document-front", "face"), OBJECTS, strict=True)]
    command = [sys.executable, "cloud_storage.py", kind, "bucket", *pictures]
    done = await to_thread.run_sync(
        lambda: subprocess.run(command, cwd=EXAMPLES, env=environ, capture_output=True, text=True, timeout=50)  # noqa: S603, PLW1510
    )

    assert done.returncode == 0, done.stderr
    stored = sandbox.session(done.stdout.strip()).media
    assert {hashlib.sha256(content).hexdigest() for content in OBJECTS.values()} == {one.sha256 for one in stored}
    assert {"document-front", "face"} == {str(one.context) for one in stored}
