"""Views into the user's system, from commands and URLs."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from veriff_async.cli._http import HttpProbe
from veriff_async.errors import ConfigurationError
from veriff_async.testing import Effects

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("PLACEHOLDER", "effects_from_command", "effects_from_url", "failing_from_commands")

PLACEHOLDER: Final = "{session_id}"
"""Stands for the id of a session in commands and URLs."""

_SECONDS: Final = 30.0
# Bytes that a command may print: a number, or a short JSON object.
_MAX_OUTPUT: Final = 65_536
# Seconds to wait for the end of a process that was killed.
_KILL_SECONDS: Final = 5.0
_OK: Final = 200


def effects_from_command(command: str) -> Callable[[str], Awaitable[Effects]]:
    """Return a function that runs a command, whose output is a number or ``{"count": 1, "status": "approved"}``."""
    option = "--effects-command"
    words = _split(command, option)

    async def count(session_id: str) -> Effects:
        return _parse(await _run([word.replace(PLACEHOLDER, session_id) for word in words], option, reads=True))

    return count


def effects_from_url(url: str) -> Callable[[str], Awaitable[Effects]]:
    """Return a function that gets a URL, whose response is as the output of a command."""

    async def count(session_id: str) -> Effects:
        async with HttpProbe(_SECONDS) as probe:
            result = await probe.get(url.replace(PLACEHOLDER, session_id), {})
        if result.status != _OK:
            msg = f"--effects-url: {result.describe()}."
            raise ConfigurationError(msg)
        return _parse(result.body)

    return count


def failing_from_commands(fail: str, recover: str) -> Callable[[bool], Awaitable[None]]:
    """Return a function that runs one of two commands."""
    option_of = {True: "--fail-command", False: "--recover-command"}
    words_of = {True: _split(fail, option_of[True]), False: _split(recover, option_of[False])}

    async def set_failing(is_failing: bool) -> None:  # noqa: FBT001  it is the only argument
        await _run(words_of[is_failing], option_of[is_failing], reads=False)

    return set_failing


def _split(command: str, option: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        msg = f"{option} is empty, or a quote in it is not closed."
        raise ConfigurationError(msg)
    return words


async def _run(words: list[str], option: str, *, reads: bool) -> bytes:
    """Run a command and return its output, or nothing: a server that it starts may keep the output open.

    Errors name the option rather than the command, which may contain a password.
    """
    output = asyncio.subprocess.PIPE if reads else asyncio.subprocess.DEVNULL
    try:
        # Without a shell: the command is exactly what the user gave. In a session of its own, so that the processes
        # that it has started end with it.
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        msg = f"{option} cannot be run ({type(error).__name__})."
        raise ConfigurationError(msg) from None
    is_done = False
    try:
        async with asyncio.timeout(_SECONDS):
            text = await _read(process.stdout, option)
            code = await process.wait()
        is_done = True
    except TimeoutError:
        msg = f"{option} takes longer than {_SECONDS:g} seconds."
        raise ConfigurationError(msg) from None
    finally:
        if not is_done:
            await _kill(process)
    if code:
        msg = f"{option} failed with exit code {code}."
        raise ConfigurationError(msg)
    return text


async def _read(stream: asyncio.StreamReader | None, option: str) -> bytes:
    text = b""
    while stream is not None and (piece := await stream.read(_MAX_OUTPUT)):
        text += piece
        if len(text) > _MAX_OUTPUT:
            msg = f"{option} prints more than {_MAX_OUTPUT // 1024} KiB."
            raise ConfigurationError(msg)
    return text


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a command and the processes that it has started."""
    with suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_KILL_SECONDS):
            await process.wait()


def _parse(output: bytes) -> Effects:
    try:
        value: object = json.loads(output)
    except (ValueError, RecursionError):
        value = None
    status: object = None
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        value, status = members.get("count"), members.get("status")
    if isinstance(value, int) and not isinstance(value, bool) and (status is None or isinstance(status, str)):
        return Effects(value, status)
    msg = 'The effects of a session must be a number or {"count": 1, "status": "approved"}.'
    raise ConfigurationError(msg)
