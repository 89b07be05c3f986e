"""The options with which commands find a running sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from veriff_async import ConfigurationError
from veriff_async.cli._env_file import load_settings
from veriff_async.cli._http import check_url
from veriff_async.cli._options import FILE, env_file_option
from veriff_async.cli.sandbox.control_client import DEFAULT_URL, ControlSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = (
    "connection_options",
    "token_file_option",
)


def connection_options(command: click.Command) -> click.Command:
    """Add ``--url``, ``--control-token-file``, ``--ca-bundle`` and ``--env-file``.

    The callback of the command gets their values and the variables as one argument, `settings`.
    """
    callback = command.callback
    assert callback is not None  # noqa: S101  commands have one

    def run_with_settings(
        *,
        url: str | None,
        control_token: str | None,
        ca_bundle: Path | None,
        env_file: Path | None,
        **values: object,
    ) -> object:
        bundle = None if ca_bundle is None else str(ca_bundle)
        settings = ControlSettings.load(load_settings(env_file), url=url, token=control_token, ca_bundle=bundle)
        return callback(settings=settings, **values)

    command.callback = run_with_settings
    add_url = click.option(
        "--url",
        callback=check_url,
        metavar="URL",
        help=f"Address of the sandbox, instead of VERIFF_SANDBOX_URL.  [default: {DEFAULT_URL}]",
    )
    add_token = token_file_option("File with the token of the sandbox, instead of VERIFF_SANDBOX_TOKEN.")
    add_ca_bundle = click.option(
        "--ca-bundle",
        type=FILE,
        metavar="FILE",
        help="Certificate authority of the sandbox, instead of VERIFF_CA_BUNDLE.",
    )
    return env_file_option(add_ca_bundle(add_token(add_url(command))))


_F = TypeVar("_F", bound="Callable[..., Any]")

# Bytes that are read: a longer file is certainly not a token.
_MAX_BYTES: Final = 1024


def token_file_option(help_text: str) -> Callable[[_F], _F]:
    """Add ``--control-token-file``, as the argument `control_token`: the content of the file, or `None`.

    A file, because every user of the machine can read arguments. Secrets of Docker and Kubernetes are files too.
    """
    return click.option(
        "--control-token-file", "control_token", type=FILE, metavar="FILE", callback=_read, help=help_text
    )


def _read(_ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            token = file.read(_MAX_BYTES).decode().strip()
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except ValueError:
        problem = "it is not text"
    else:
        if token:
            return token
        problem = "it is empty"
    msg = f"The file of --control-token-file cannot be used ({problem}): write the token into it."
    raise ConfigurationError(msg)
