"""The classes for synchronous code.

Type checkers and editors read the file ``_classes.pyi``, which a test writes from the asynchronous classes.
"""

from __future__ import annotations

from veriff_async._media.downloader import MediaStream
from veriff_async.blocking._adapter import adapt
from veriff_async.blocking._client import ClientBase
from veriff_async.client import VeriffClient
from veriff_async.session import VerificationSession

__all__ = ("BlockingClient", "BlockingMediaStream", "BlockingSession")

BlockingMediaStream = adapt("BlockingMediaStream", MediaStream)
BlockingSession = adapt("BlockingSession", VerificationSession)
BlockingClient = adapt("BlockingClient", VeriffClient, ClientBase)
