"""The secrets of the examples of web applications."""

from __future__ import annotations

import importlib.util

import pytest

from tests.examples.conftest import EXAMPLES


@pytest.mark.parametrize("name", ["aiohttp", "django", "flask", "lambda", "litestar"])
@pytest.mark.parametrize("secret", ["", "change-me"])
def test_secret_that_can_be_guessed_is_refused(name: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a secret that is empty or short, cookies and tokens could be forged, so the application does not start."""
    monkeypatch.setenv("SESSION_SECRET", secret)
    monkeypatch.setenv("TOKEN_SECRET", secret)

    def start() -> None:
        spec = importlib.util.spec_from_file_location(f"{name}_secret", EXAMPLES / f"{name}_app.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.read_secret()

    with pytest.raises(ValueError, match="_SECRET needs 32 characters"):
        start()
