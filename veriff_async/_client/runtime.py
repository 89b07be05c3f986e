"""The objects that make the calls of a client in one event loop: pool, transport, uploads, downloads and waiters.

    VeriffClient ─────► Runtime ──► transport, uploads, downloads ──┐
                           │ with_options                           ├─► pool, cooldown, counters, threads, permits
    view of the client ─► Runtime ──► transport, uploads, downloads ┘   waiters: poller, inbox watcher, memory

A runtime lives from the opening of a client to its end; a client that is opened again gets another one. The runtime of
a view has its own limits and policies, and shares everything that counts, bounds or remembers.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from anyio import CapacityLimiter

from veriff_async._client.options import add_options
from veriff_async._http.health import HealthMonitor
from veriff_async._http.pool import Pool
from veriff_async._http.transport import Transport
from veriff_async._media.downloader import Downloader
from veriff_async._media.prepare import Preparer
from veriff_async._media.uploader import Uploader
from veriff_async._media.worker_threads import WorkerThreads
from veriff_async._protocol import endpoints
from veriff_async._telemetry.setup import open_instrumentation
from veriff_async._views import view_of
from veriff_async._waiting.waiters import DecisionWaiters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from veriff_async._client.options import Settings
    from veriff_async._telemetry.instrumentation import Instrumentation
    from veriff_async._telemetry.waits import WaitTelemetry
    from veriff_async.config import CallOptions, PollPolicy
    from veriff_async.credentials import Credentials
    from veriff_async.models.decision import Decision

__all__ = ("Runtime",)


class Runtime:
    """The parts that the calls of a client, or of a view of it, use.

    Attributes:
        pool: The connections.
        transport: Sends calls.
        waiters: The waits of the client and all its views.
        health: The last check of the client and all its views.
        instrumentation: Exports spans and metrics of the client and all its views, if any are exported.
        poll: The polling policy of a view, or ``None`` for that of the client.
    """

    transport: Transport
    instrumentation: Instrumentation | None

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        """Create the objects; nothing is opened yet."""
        self.pool: Pool = Pool(
            settings.http_session,
            max_connections=settings.max_connections,
            trust_env=settings.trust_env,
            tls=settings.tls,
        )
        # One thread for each upload and download that is running, and a few for files that are inspected or spooled.
        # A pool of its own: the default one of anyio is shared with the application, whose work could block uploads.
        threads = CapacityLimiter(settings.max_uploads + settings.max_downloads + 4)
        transport = self.transport = Transport(
            credentials=credentials,
            roots=settings.hosts,
            pool=self.pool,
            retry=settings.retry,
            timeouts=settings.timeouts,
            verify_responses=settings.verify_responses,
            middleware=settings.middleware,
        )
        self.instrumentation = open_instrumentation(settings.telemetry)
        self._writers = WorkerThreads(max(2, os.cpu_count() or 2))
        self.uploads = Uploader(
            transport,
            _create_preparer(settings, threads, self._writers),
            max_uploads=settings.max_uploads,
            idle=settings.timeouts.idle,
            instrumentation=self.instrumentation,
        )
        self.downloads = Downloader(
            transport,
            max_downloads=settings.max_downloads,
            threads=threads,
            writers=self._writers,
            verify=settings.verify_responses,
        )
        # A function of the transport, not of the client: an unclosed client must be collected, which makes it warn.
        self.waiters: DecisionWaiters = DecisionWaiters(
            lambda session_id: transport.send(endpoints.decision(session_id)),
            get_attempts=lambda session_id: transport.send(endpoints.attempts(session_id)),
            poll=settings.poll,
            inbox=settings.inbox,
            memory=settings.memory,
            telemetry=self._export_calls(),
            check_loop=self.pool.calls.check_loop,
        )
        self.health: HealthMonitor = HealthMonitor(transport)
        self.poll: PollPolicy | None = None
        # Of a view: the client's runtime, and all options of the view.
        self._base: Runtime | None = None
        self._options: CallOptions = {}
        if self.instrumentation is not None:
            # Last, because the thread of an exporter may read the load at once.
            self.instrumentation.instruments.add_source(self.observe)

    def _export_calls(self) -> WaitTelemetry | None:
        """Export all calls, if anything is exported, and return what exports waits."""
        instrumentation = self.instrumentation
        if instrumentation is None:
            return None
        # Imported here, since they import OpenTelemetry.
        from veriff_async._telemetry.calls import CallTracer
        from veriff_async._telemetry.waits import WaitTelemetry

        self.transport.observers.append(CallTracer(instrumentation))
        return WaitTelemetry(instrumentation)

    def with_options(self, options: CallOptions) -> Runtime:
        """Return the runtime of a view."""
        transport = self.transport.with_settings(
            retry=options.get("retry"), timeouts=options.get("timeouts"), middleware=options.get("middleware") or ()
        )
        # Of the client's own runtime, not of the view before: a program may replace a session by its view repeatedly.
        base, added = self._base or self, add_options(self._options, options)
        view = view_of(self, transport=transport, poll=options.get("poll") or self.poll, _base=base, _options=added)
        # They are made when they are needed: most views are for one call that moves no file.
        view.__dict__.pop("uploads", None)
        view.__dict__.pop("downloads", None)
        return view

    @cached_property
    def uploads(self) -> Uploader:
        """Sends media."""
        return (self._base or self).uploads.with_options(self.transport, self._options)

    @cached_property
    def downloads(self) -> Downloader:
        """Receives media."""
        return (self._base or self).downloads.with_options(self.transport, self._options)

    def get_decision(self, session_id: str) -> Awaitable[Decision | None]:
        """Ask Veriff for the decision on a session."""
        return self.transport.send(endpoints.decision(session_id))

    def observe(self) -> Mapping[str, float]:
        """Return the present load, by the names of metrics; called in the thread of an exporter."""
        waiters = self.waiters
        load: dict[str, float] = {
            "veriff.uploads.active": self.uploads.active,
            "veriff.downloads.active": self.downloads.active,
            "veriff.waiters": waiters.count,
            "veriff.inbox.backlog": waiters.inbox_backlog,
            "veriff.inbox.failing": waiters.inbox_state == "failing",
        }
        with suppress(RuntimeError, IndexError):  # the loop has changed the waiters at this moment
            load["veriff.wait.max_age"] = waiters.max_age
        return load

    async def aclose(self) -> None:
        """End all waits and calls, and close the connections."""
        if self.instrumentation is not None:
            self.instrumentation.instruments.remove_source(self.observe)
        try:
            # The waiters first, because their polls use the connections.
            await self.waiters.aclose()
        finally:
            try:
                await self.pool.aclose()
            finally:
                self.uploads.close()
                self._writers.close()


def _create_preparer(settings: Settings, threads: CapacityLimiter, writers: WorkerThreads) -> Preparer:
    return Preparer(
        threads=threads,
        # One thread for each upload, which may have to wait for its disk, and a few for files that are inspected.
        workers=WorkerThreads(settings.max_uploads + 4),
        writers=writers,
        idle=settings.timeouts.idle,
        thresholds=settings.thresholds,
        face_detector=settings.face_detector,
    )
