"""Every entry point says that asyncio is required, when another library runs the coroutine."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async import ConfigurationError, Credentials, Media, Person, VeriffClient, WebhookReceiver
from veriff_async.batch import Job, MemoryJournal, RedisJournal, SqliteJournal
from veriff_async.event_loop import require_asyncio
from veriff_async.inbox import MemoryInbox, RedisInbox, SqliteInbox
from veriff_async.protocol.events import decision_event
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CREDENTIALS: Final = Credentials("3d1b5b0c-0000-4000-8000-00000000ab01", "abcdef12-abcd-abcd-abcd-abcdef012345")
ID: Final = "11111111-2222-3333-4444-555555555555"
