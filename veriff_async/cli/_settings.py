"""Who the commands speak as: from the environment or from a file, never from arguments."""

from __future__ import annotations

import os
import re
import shlex
import stat
import warnings
from typing import TYPE_CHECKING, Final, Unpack

from veriff_async import ConfigurationError, DeprecatedHostWarning, VeriffClient
from veriff_async.cli._runtime import course, warn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from veriff_async.client import ClientOptions

__all__ = ("client_from_settings", "settings_from")

_MOST: Final = 65_536  # bytes; what is larger is some other file, taken by mistake
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def settings_from(env_file: Path | None) -> Mapping[str, str]:
    """Return the variables to make a client or `Credentials` from.

    A file stands alone: nothing of the environment is mixed in, because the key of one integration and the address of
    another is how a test ends up in production.

    Args:
        env_file: What ``--env-file`` was given, or `None` for the environment of the process.

    Raises:
        ConfigurationError: The file cannot be read, or has a line that is no variable; the message has its number.
    """
    if env_file is None:
        return os.environ
    name = env_file.name
    try:
        with env_file.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST + 1)
    except OSError as error:
        msg = f"{name} cannot be read ({error.strerror or type(error).__name__}): give a file that you may read."
        raise ConfigurationError(msg) from None
    if len(data) > _MOST:
        msg = f"{name} has more than {_MOST} bytes: give a file of KEY=VALUE lines."
        raise ConfigurationError(msg)
    if os.name == "posix" and stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"Other users may read {name}, and it holds secrets: chmod 600 keeps it yours.")
    return dict(_variables(data, name))


def client_from_settings(env_file: Path | None, **options: Unpack[ClientOptions]) -> VeriffClient:
    """Make a client as ``--env-file`` or the environment says, and ``--proxy``; use it with ``async with``.

    Args:
        env_file: What ``--env-file`` was given.
        **options: The options of `VeriffClient`.

    Raises:
        ConfigurationError: The file or a variable is not right; the message names it, never its value.
    """
    if course().proxy is not None:
        options["trust_env"] = True
    with warnings.catch_warnings(record=True, action="always", category=DeprecatedHostWarning) as caught:
        client = VeriffClient.from_env(settings_from(env_file), **options)
    for each in caught:
        warn(str(each.message))
    return client


def _variables(data: bytes, name: str) -> list[tuple[str, str]]:
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found = [_variable(line, f"Line {number} of {name}") for number, line in enumerate(lines, 1)]
    return [variable for variable in found if variable is not None]


def _variable(line: bytes, where: str) -> tuple[str, str] | None:
    """Read a line as a shell does, but for what it would replace: a value is what stands there."""
    if line.lstrip().startswith(b"#"):
        return None
    try:
        words = shlex.split(line.decode(), comments=False)
    except UnicodeDecodeError:
        words, problem = ["?"], "is not UTF-8"
    except ValueError:
        words, problem = ["?"], "has a quotation mark without its partner"
    else:
        problem = "is not KEY=VALUE"
    # A number sign inside of a word is part of a secret, so comments are cut by words.
    comment = next((place for place, word in enumerate(words) if word.startswith("#")), len(words))
    words = words[1:comment] if words[:1] == ["export"] else words[:comment]
    if not words:
        return None
    key, equals, value = words[0].partition("=")
    if len(words) > 1 or not equals or not _NAME.fullmatch(key) or "\0" in value:
        msg = f"{where} {problem}: write KEY=VALUE or export KEY=VALUE, with a value with spaces in quotes."
        raise ConfigurationError(msg)
    return key, value
