"""Views into the user's system, from commands and URLs."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
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
_OK: Final = 200


def effects_from_command(command: str) -> Callable[[str], Awaitable[Effects]]:
    """Return a function that runs a command, whose output is a number or ``{"count": 1, "status": "approved"}``."""
    words = _split(command)

    async def count(session_id: str) -> Effects:
        return _parse(await _run([word.replace(PLACEHOLDER, session_id) for word in words]))

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
    words_of = {True: _split(fail), False: _split(recover)}

    async def set_failing(is_failing: bool) -> None:  # noqa: FBT001  it is the only argument
        await _run(words_of[is_failing])

    return set_failing


def _split(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        msg = "A command is empty, or a quote in it is not closed."
        raise ConfigurationError(msg)
    return words


async def _run(words: list[str]) -> bytes:
    # Without a shell: the command is exactly what the user gave.
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"The command {words[0]} failed ({type(error).__name__})."
        raise ConfigurationError(msg) from None
    if done.returncode:
        msg = f"The command {words[0]} failed with exit code {done.returncode}."
        raise ConfigurationError(msg)
    return done.stdout


def _parse(output: bytes) -> Effects:
    try:
        value: object = json.loads(output)
    except ValueError:
        value = None
    status: object = None
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        value, status = members.get("count"), members.get("status")
    if isinstance(value, int) and not isinstance(value, bool) and (status is None or isinstance(status, str)):
        return Effects(value, status)
    msg = 'The effects of a session must be a number or {"count": 1, "status": "approved"}.'
    raise ConfigurationError(msg)
