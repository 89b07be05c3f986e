"""The server of a sandbox: how it starts, runs and stops.

Two ways to run
    ``async with`` serves in the running loop. ``with`` starts a thread that runs its own loop (anyio's blocking portal)
    and serves there. Both call `SandboxServer.start` and `SandboxServer.stop` in the loop of the server.

Order of start and stop
    Files, connection pool, HTTP server, scheduler; each is registered in an exit stack, so a failed start closes what
    was opened, and a stop closes in reverse order: no webhook is posted after the server stopped. Requests that a fault
    lets hang are ended by the event `closing`; others have a second to finish.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack, suppress
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Final

from aiohttp import web
from anyio import to_thread
from anyio.from_thread import start_blocking_portal
from attrs import frozen

from veriff_async._http.server_log import get_server_logger
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox._address import listen
from veriff_async.sandbox._app import build_app
from veriff_async.sandbox._changes import SessionChanges
from veriff_async.sandbox._control.operation import Context
from veriff_async.sandbox._media_store import MediaStore
from veriff_async.sandbox._parts import Parts
from veriff_async.sandbox._scheduler import Scheduler
from veriff_async.sandbox._tls import ServerTLS, TLSFiles, add_authority_route, create_tls
from veriff_async.sandbox._webhook_app import WebhookApp, running_loop
from veriff_async.sandbox._webhooks import WebhookSender

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from veriff_async.sandbox._control.access import Access
    from veriff_async.sandbox._records import StoredMedia
    from veriff_async.sandbox._service import SandboxService
    from veriff_async.sandbox._state_folder import StateKeeper

__all__ = ("SandboxServer", "ServerOptions")

# Time that running requests have to finish when the sandbox stops.
_SHUTDOWN_SECONDS: Final = 1.0

_RUNS_ALREADY: Final = "The sandbox is running already: create another Sandbox to run two at the same time."


@frozen(kw_only=True)
class ServerOptions:
    """The options of `Sandbox` that concern its server.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 selects a free one.
        media_folder: Folder for uploaded files; ``None`` for a temporary one, or that of the state folder.
        state_folder: Folder for the state; ``None`` keeps it in memory.
        tls: Whether to serve https, or the files to do so.
        tls_names: More names for the certificate.
        takes_credentials: Whether the credentials of the state folder are used.
    """

    host: str
    port: int
    media_folder: Path | None
    state_folder: Path | None
    tls: bool | TLSFiles
    tls_names: Collection[str]
    takes_credentials: bool


class SandboxServer:
    """Serves a sandbox in an event loop."""

    def __init__(
        self,
        options: ServerOptions,
        *,
        service: SandboxService,
        access: Access,
        webhook_app: WebhookApp,
        set_public_url: Callable[[str | None], None],
    ) -> None:
        """Start nothing yet."""
        self._options = options
        self._service = service
        self._access = access
        self._webhook_app = webhook_app
        self._set_public_url = set_public_url
        self.tls: ServerTLS | None = None
        # Set while it runs: the server's loop, and the scheduler in it.
        self._running: tuple[asyncio.AbstractEventLoop, Scheduler] | None = None
        self._was_started = False
        self._open_parts = Parts()
        # Held from the start until everything is closed.
        self._in_use = Lock()
        self._thread = ExitStack()
        self._process = os.getpid()

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._running is not None

    def start_in_thread(self) -> None:
        """Start in a thread with a loop of its own."""
        # `start` decides; this is to start no thread in vain.
        if self._in_use.locked():
            raise ConfigurationError(_RUNS_ALREADY)
        with ExitStack() as thread:
            portal = thread.enter_context(start_blocking_portal("asyncio"))
            portal.call(self.start)
            thread.callback(portal.call, self.stop)
            # Until here an error stops the thread; from here on `stop_thread` does.
            self._thread = thread.pop_all()
            self._process = os.getpid()

    def stop_thread(self) -> None:
        """Stop, and end the thread."""
        # A forked child leaves the block, too; the thread is in its parent, and a call to it would never return.
        if self._process == os.getpid():
            self._thread.close()

    async def wait_idle(self) -> None:
        """Wait until the scheduler is idle; from any loop."""
        loop, scheduler = self._require_running()
        if loop is asyncio.get_running_loop():
            await scheduler.join()
        else:
            # Another loop: run there, and await the result here; cancelling this future cancels the coroutine there.
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(scheduler.join(), loop))

    def wait_idle_sync(self, timeout: float) -> None:
        """Block the thread until the scheduler is idle.

        Raises:
            ConfigurationError: The sandbox is not running, or runs in the loop that would have to wait.
            TimeoutError: It took longer than `timeout` seconds.
        """
        loop, scheduler = self._require_running()
        self.refuse_to_block("wait_idle")
        asyncio.run_coroutine_threadsafe(scheduler.join(), loop).result(timeout)

    def check_running(self) -> None:
        """Check that it runs."""
        self._require_running()

    def _require_running(self) -> tuple[asyncio.AbstractEventLoop, Scheduler]:
        if self._running is None:
            msg = "The sandbox is not running: use it in a with or async with block."
            raise ConfigurationError(msg)
        return self._running

    def refuse_to_block(self, name: str) -> None:
        """Refuse to block a loop whose work ends the wait: that of the sandbox, or of the application."""
        loop = running_loop()
        if loop is not None and (
            (self._running is not None and self._running[0] is loop) or self._webhook_app.is_called_in(loop)
        ):
            msg = f"{name}_sync() would block the loop that the sandbox or its webhook_app runs in: await {name}()."
            raise ConfigurationError(msg)

    def wake(self) -> None:
        """Let the scheduler look at the agenda; from any thread."""
        # Read once: another thread may be stopping it.
        running = self._running
        if running is not None:
            loop, scheduler = running
            # The loop may have ended by now, with or without a stop of the sandbox; nothing is left to wake then.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(scheduler.wake)

    async def start(self) -> None:
        """Listen, in the running loop."""
        async with Parts() as parts:
            parts.claim(self._in_use, _RUNS_ALREADY)
            media_folder, state_folder = self._options.media_folder, self._options.state_folder
            keeper = None if state_folder is None else await self._open_state(state_folder, parts)
            if state_folder is not None:
                await to_thread.run_sync(self._access.keep_token, state_folder / "control-token")
            if keeper is not None:
                media_folder = media_folder or keeper.media_folder
            store = await to_thread.run_sync(MediaStore, media_folder)
            parts.push_async_callback(to_thread.run_sync, store.close)
            self._service.media_folder = store.folder
            # Files of a temporary folder were deleted at the last stop, and must not be listed.
            await to_thread.run_sync(self._service.resume, _file_exists)
            self._service.restart_chaos()
            parts.push_async_callback(self._webhook_app.aclose)
            sender = WebhookSender(self._webhook_app)
            parts.push_async_callback(sender.aclose)
            closing = asyncio.Event()
            context = Context(
                service=self._service,
                changes=SessionChanges(self._service),
                wait_idle=self.wait_idle,
                access=self._access,
                set_public_url=self._set_public_url,
                closing=closing,
            )
            app = build_app(context, store, self._access, closing, keeper)
            if self._options.tls:
                self.tls = await to_thread.run_sync(self._create_tls)
                parts.push_async_callback(self._close_tls, self.tls)
                if self.tls.ca_pem is not None:
                    add_authority_route(app, self.tls.ca_pem)
            runner = web.AppRunner(
                app,
                handler_cancellation=True,
                shutdown_timeout=_SHUTDOWN_SECONDS,
                access_log=None,
                logger=get_server_logger(__name__),
            )
            await runner.setup()
            parts.push_async_callback(runner.cleanup)
            # Registered after the cleanup of the runner, so it is called before: hanging requests must end first.
            parts.callback(closing.set)
            self._service.timeline.open()
            parts.callback(self._service.timeline.close)
            self._service.host = await self._listen(runner)
            # Called after the scheduler has ended, for the files that it has not removed.
            parts.push_async_callback(self._remove_discarded, store)
            loop, scheduler = asyncio.get_running_loop(), Scheduler(self._service, sender, store, keeper)
            self._running = loop, scheduler
            parts.push_async_callback(_cancel_and_wait, loop.create_task(scheduler.run(), name="veriff sandbox"))
            if keeper is not None:
                parts.push_async_callback(_cancel_and_wait, loop.create_task(keeper.run(), name="veriff sandbox state"))
            self._open_parts = parts.pop_all()

    async def _open_state(self, path: Path, parts: Parts) -> StateKeeper:
        # Only where it is needed, because SQLite takes time to load, and in a thread, because an import reads files.
        await to_thread.run_sync(import_module, "veriff_async.sandbox._state_folder")
        from veriff_async.sandbox._state_folder import StateKeeper, open_state_folder  # noqa: PLC0415

        folder = await open_state_folder(path, self._options.media_folder)
        parts.push_async_callback(to_thread.run_sync, folder.close)
        keeper = await to_thread.run_sync(
            lambda: StateKeeper.open(
                self._service, folder, is_new=not self._was_started, takes_credentials=self._options.takes_credentials
            )
        )
        self._was_started = True
        # Called when everything else has ended, for changes that no response waited for.
        parts.push_async_callback(keeper.flush)
        return keeper

    async def _remove_discarded(self, store: MediaStore) -> None:
        if paths := self._service.take_discarded():
            await to_thread.run_sync(store.delete, paths)

    def _create_tls(self) -> ServerTLS:
        # Clients that trust the authority once trust it after a restart too.
        folder = None if self._options.state_folder is None else self._options.state_folder / "tls"
        return create_tls(self._options.tls, host=self._options.host, names=self._options.tls_names, folder=folder)

    async def _close_tls(self, tls: ServerTLS) -> None:
        self.tls = None
        await to_thread.run_sync(tls.close)

    async def _listen(self, runner: web.AppRunner) -> str:
        context = None if self.tls is None else self.tls.context
        url = await listen(runner, self._options.host, self._options.port, name="sandbox", tls=context)
        self._access.open([address[0] for address in runner.addresses])
        return url

    async def stop(self) -> None:
        """Stop, and leave nothing behind."""
        # First, so that no other thread sends work to a loop that is stopping.
        self._running = None
        self._service.host = ""
        self._service.media_folder = None
        await self._open_parts.aclose()


async def _cancel_and_wait(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _file_exists(media: StoredMedia) -> bool:
    try:
        # A file that a power cut has left incomplete is none.
        return media.path.stat().st_size == media.size
    except OSError:
        return False
