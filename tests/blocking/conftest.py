"""A sandbox in a thread of its own, and a client for synchronous code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from veriff_async import blocking
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veriff_async.blocking import BlockingClient


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Run a sandbox in a thread."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def veriff(sandbox: Sandbox) -> Iterator[BlockingClient]:
    """Return a client of the sandbox."""
    with blocking.open_client(sandbox.credentials, base_url=sandbox.base_url) as veriff:
        yield veriff
