"""The examples in this process, started and stopped repeatedly, as test clients and adapters do."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.examples.conftest import EXAMPLES
from tests.webhooks.conftest import CREDENTIALS, message, sign_headers, under_uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

NAMES: Final = ("starlette", "quart", "django")  # Litestar leaves a thread of its own for logging


@pytest.fixture(params=NAMES)
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import an example by its path."""
    settings = {
        "VERIFF_API_KEY": CREDENTIALS.api_key,
        "VERIFF_SHARED_SECRET": CREDENTIALS.shared_secret,
        "VERIFF_BASE_URL": "http://127.0.0.1:9",
        "VERIFF_INBOX": str(tmp_path / "inbox.db"),
        "SESSION_SECRET": "a secret of 32 characters or more",
        "ALLOWED_HOSTS": "here",
    }
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    name = f"{request.param}_app"
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # frameworks look up annotations by the module's name
    spec.loader.exec_module(module)
    return module


def test_restarted_application_receives_webhooks(example: ModuleType) -> None:
    """An application that is started twice in one loop, and again in another, records webhooks each time."""
    app: Callable[..., Any] = example.application if hasattr(example, "application") else example.create_app()

    async def serve(starts: int, name: str) -> None:
        for number in range(starts):
            async with under_uvicorn(app) as server:
                body = message(session_id=f"{name}{number}")
                assert 200 == (await server.post(body, sign_headers(body))).status

    asyncio.run(serve(2, "first"))
    asyncio.run(serve(1, "second"))
