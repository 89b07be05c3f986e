"""Credentials and base URL from the environment or an ``--env-file``, never from arguments.

The parser is our own: python-dotenv skips a line that it cannot parse and lets a quoted value span lines. Either would
turn a typing error into a wrong secret, which shows up much later as a refused signature.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
import warnings
from typing import TYPE_CHECKING, Final, Unpack

from veriff_async import ConfigurationError, DeprecatedHostWarning, VeriffClient
from veriff_async.cli._runtime import current_command, warn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from veriff_async.client import ClientOptions

__all__ = ("create_client", "load_settings")

_MAX_BYTES: Final = 65_536  # a larger file is certainly not a file of settings
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def load_settings(env_file: Path | None) -> Mapping[str, str]:
    """Return the variables to make a client or `Credentials` from.

    A file replaces the environment completely. Mixing both could combine the key of one integration with the base URL
    of another, and send tests to production.

    Raises:
        ConfigurationError: The file cannot be read, or a line is not a variable; the message contains its number.
    """
    if env_file is None:
        return os.environ
    name = env_file.name
    try:
        with env_file.open("rb") as file:
            # Of the open file: the path may name another file a moment later.
            mode = os.fstat(file.fileno()).st_mode
            # One byte beyond the limit shows that the file is too large, without reading all of it.
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        msg = f"{name} cannot be read ({error.strerror or type(error).__name__}): give a file that you may read."
        raise ConfigurationError(msg) from None
    if len(data) > _MAX_BYTES:
        msg = f"{name} has more than {_MAX_BYTES} bytes: give a file of KEY=VALUE lines."
        raise ConfigurationError(msg)
    # Only for regular files: the mode of a pipe, such as <(...) in bash, does not matter.
    if sys.platform != "win32" and stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"Other users can read {name}, which contains secrets: restrict it with chmod 600.")
    return dict(_parse(data, name))


def create_client(env_file: Path | None, **options: Unpack[ClientOptions]) -> VeriffClient:
    """Create a client from ``--env-file`` or the environment, and ``--proxy``; use it with ``async with``.

    Raises:
        ConfigurationError: The file or a variable is invalid; the message names it, never its value.
    """
    # `use_proxy` has put the proxy into the environment, from which aiohttp takes it with `trust_env`.
    if current_command().proxy is not None:
        options["trust_env"] = True
    # Shown as a sentence: the position in our own code means nothing to the user of a command.
    with warnings.catch_warnings(record=True, action="always", category=DeprecatedHostWarning) as caught:
        client = VeriffClient.from_env(load_settings(env_file), **options)
    for warning in caught:
        warn(str(warning.message))
    return client


def _parse(data: bytes, name: str) -> list[tuple[str, str]]:
    # Some editors write a byte order mark, which would become part of the first name.
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    variables = [_parse_line(line, f"Line {number} of {name}") for number, line in enumerate(lines, 1)]
    return [variable for variable in variables if variable is not None]


def _parse_line(line: bytes, position: str) -> tuple[str, str] | None:
    """Parse a line like a shell, but without expansion: ``$`` and backquotes may be part of a secret."""
    # Before the line is decoded: a comment may have any encoding.
    if line.lstrip().startswith(b"#"):
        return None
    try:
        words = shlex.split(line.decode(), comments=False)
    except UnicodeDecodeError:
        # A word without an equals sign, so that the check below refuses the line.
        words, problem = ["?"], "is not UTF-8"
    except ValueError:
        words, problem = ["?"], "has an unclosed quotation mark"
    else:
        problem = "is not KEY=VALUE"
    # Only a word that starts with # begins a comment: inside of a word it is part of a secret.
    comment = next((index for index, word in enumerate(words) if word.startswith("#")), len(words))
    words = words[1:comment] if words[:1] == ["export"] else words[:comment]
    if not words:
        return None
    key, equals, value = words[0].partition("=")
    if len(words) > 1 or not equals or not _NAME.fullmatch(key) or "\0" in value:
        msg = f"{position} {problem}: write KEY=VALUE or export KEY=VALUE, and put values with spaces in quotes."
        raise ConfigurationError(msg)
    return key, value
