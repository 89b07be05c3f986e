"""Waits for notifications of PostgreSQL without the timer that psycopg needs for it, ten times a second."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from veriff_async._storage.postgres_queries import execute

if TYPE_CHECKING:
    from psycopg import Notify

    from veriff_async._storage.postgres_queries import Connection

__all__ = ("Notifications",)


class Notifications:
    """The notifications of one channel, on a connection of their own.

    Attributes:
        connection: The connection, which does nothing else.
        test_channel: A channel that only this connection listens to, to test whether notifications arrive at all.
        is_tested: Whether a notification of the test channel has arrived.
    """

    def __init__(self, connection: Connection, channel: str) -> None:
        """Collect notifications from now on; call `start` before `wait`."""
        self.connection = connection
        self.test_channel = f"veriff_test_{secrets.token_hex(8)}"
        self.is_tested = False
        self._channel = channel
        self._received: list[tuple[str, str]] = []
        # For those that arrive during a statement; `wait` reads the others.
        connection.add_notify_handler(self._on_notify)

    async def start(self) -> None:
        """Listen to both channels."""
        quoted = (f'"{name.replace(chr(34), chr(34) * 2)}"' for name in (self._channel, self.test_channel))
        await execute(self.connection, "; ".join(f"LISTEN {name}" for name in quoted).encode())

    async def wait(self, seconds: float) -> list[str]:
        """Return the payloads that have arrived, after some seconds at most.

        Raises:
            psycopg.Error: The connection is lost.
        """
        pgconn, loop = self.connection.pgconn, asyncio.get_running_loop()
        is_readable = asyncio.Event()
        if not self._received:
            descriptor = pgconn.socket
            loop.add_reader(descriptor, is_readable.set)
            try:
                async with asyncio.timeout(seconds):
                    await is_readable.wait()
            except TimeoutError:
                return []
            finally:
                loop.remove_reader(descriptor)
        pgconn.consume_input()
        while (notification := pgconn.notifies()) is not None:
            self._received.append((notification.relname.decode(), notification.extra.decode()))
        received, self._received = self._received, []
        self.is_tested = self.is_tested or any(name == self.test_channel for name, _ in received)
        return [payload for name, payload in received if name == self._channel]

    def _on_notify(self, notification: Notify) -> None:
        self._received.append((notification.channel, notification.payload))
