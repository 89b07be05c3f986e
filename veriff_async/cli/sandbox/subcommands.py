"""Subcommands that need more than one call of an operation: chaos, environ, events, restore, snapshot."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import aclosing
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import click
from anyio import CancelScope, open_file, to_thread

from veriff_async import ConfigurationError
from veriff_async.cli._options import FILE, json_lines_option, json_option
from veriff_async.cli._output import megabytes, printable
from veriff_async.cli._runtime import print_json, run, stdout_output
from veriff_async.cli._stdio import OutputError, print_stdout
from veriff_async.cli.listen.server import stop_on_signals
from veriff_async.cli.sandbox.connection import connection_options
from veriff_async.cli.sandbox.control_client import ControlClient, ControlSettings, call_operation, find_operation
from veriff_async.cli.sandbox.field_options import field_option
from veriff_async.cli.sandbox.server import assignment
from veriff_async.models.json import EMPTY, as_object
from veriff_async.sandbox import ChaosProfile

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from veriff_async.cli.sandbox.control_client import ControlSettings
    from veriff_async.models.json import JsonObject

__all__ = (
    "CHAOS",
    "chaos",
    "environ",
    "events",
    "restore",
    "snapshot",
)


class _Chaos(click.Path):
    """The name of a chaos profile that the library includes, or a file."""

    name = "chaos"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the included profiles, and files."""
        names = click.Choice(ChaosProfile.shipped()).shell_complete(ctx, param, incomplete)
        return names or super().shell_complete(ctx, param, incomplete)


CHAOS: Final = _Chaos()
"""The name of an included profile, or a file."""


@json_option
@connection_options
@click.command()
@click.argument("profile", type=CHAOS, required=False, metavar="[NAME|FILE]")
@click.option("--off", is_flag=True, help="Return to normal.")
def chaos(
    *,
    profile: str | None,
    off: bool,
    settings: ControlSettings,
    for_program: bool,
) -> None:
    """Show the chaos profile, or set it to NAME or to the TOML file FILE.

    Its outages count from now.
    """
    if off and profile is not None:
        msg = "--off returns to normal, and a profile sets one: give one of them."
        raise click.UsageError(msg)
    if profile is None:
        result = run(call_operation(settings, "clear_chaos" if off else "get_chaos", {}))
    elif profile in ChaosProfile.shipped():
        result = run(call_operation(settings, "set_chaos", {"name": profile}))
    else:
        # Read here: the sandbox may run on another machine, or in a container.
        members = ChaosProfile.load(profile).to_dict()
        result = run(call_operation(settings, "set_chaos", {"profile": members}))
    if for_program:
        print_json(dict(result))
        return
    current = as_object(result.get("profile"))
    names = ", ".join(ChaosProfile.shipped())
    text = "none" if current is None else f"{current.get('name')}: {current.get('description', '')}"
    stdout_output().print(f"Chaos profile {text}")
    stdout_output().print(f"The library includes {names}.")


@json_option
@connection_options
@click.command()
def environ(*, settings: ControlSettings, for_program: bool) -> None:
    """Print the commands that set the variables of clients, with the key and secret, as at the start.

    In another terminal: eval "$(veriff-async sandbox environ)"
    """
    variables = as_object(run(call_operation(settings, "get_environ", {})).get("environ")) or EMPTY
    if for_program:
        print_json(dict(variables))
    else:
        for name, value in variables.items():
            print_stdout(assignment(name, str(value), sys.platform))


_ZIP: Final = "application/zip"


@json_option
@connection_options
@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Replace FILE if it exists.")
def snapshot(
    *,
    file: Path,
    replace: bool,
    settings: ControlSettings,
    for_program: bool,
) -> None:
    """Save the whole state of the sandbox in FILE, as a ZIP archive that only you can read."""
    if not replace and os.path.lexists(file):
        msg = f"{file.name} exists: give another name, or --replace."
        raise ConfigurationError(msg)
    size = run(_save(settings, file))
    if for_program:
        print_json({"file": str(file), "size": size})
    else:
        stdout_output().print(f"{file}: {megabytes(size)}")


@json_option
@connection_options
@click.command()
@click.argument("file", type=FILE)
def restore(
    *,
    file: Path,
    settings: ControlSettings,
    for_program: bool,
) -> None:
    """Replace the whole state of the sandbox by that in FILE, from `snapshot` of this sandbox or of another one."""
    run(_load(settings, file))
    if for_program:
        print_json({"file": str(file)})
    else:
        stdout_output().print(f"The sandbox has the state of {file}.")


async def _save(settings: ControlSettings, file: Path) -> int:
    """Save a snapshot, and return its size. The file is complete, or unchanged."""
    temporary = file.with_name(f".{token_hex(8)}.part")
    size = 0
    try:
        async with (
            ControlClient(settings) as client,
            aclosing(client.download(find_operation("snapshot").path, _ZIP)) as pieces,
            await open_file(temporary, "xb", opener=_open_for_owner) as target,
        ):
            async for piece in pieces:
                size += await target.write(piece)
        # Atomic: another program never sees a part of the archive.
        await to_thread.run_sync(temporary.replace, file)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return size
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(lambda: temporary.unlink(missing_ok=True))
    msg = f"{file.name} cannot be written ({problem}): give a file in a folder that you may write to."
    raise ConfigurationError(msg)


async def _load(settings: ControlSettings, file: Path) -> None:
    operation = find_operation("restore")
    try:
        async with ControlClient(settings) as client, await open_file(file, "rb") as source:
            await client.upload(operation.method, operation.path, source.wrapped, operation.upload or _ZIP)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return
    msg = f"{file.name} cannot be read ({problem}): give a file that you may read."
    raise ConfigurationError(msg)


def _open_for_owner(path: str, flags: int) -> int:
    # It contains pictures and data of people.
    return os.open(path, flags, 0o600)


_STREAM = find_operation("stream_events")


@json_lines_option
@connection_options
@click.command(params=[_option for each in _STREAM.query if (_option := field_option(each)) is not None])
def events(
    *,
    settings: ControlSettings,
    for_program: bool,
    **filters: object,
) -> None:
    """Print what happens in the sandbox, a line for each event, until Ctrl-C.

    Requests with the reason of a wrong signature, changes of sessions, webhooks with the receiver's response, faults
    and settings. With --json each line is a JSON object.
    """
    query = {name: str(value) for name, value in filters.items() if value is not None}
    run(_follow(settings, query, for_program=for_program))


async def _follow(settings: ControlSettings, query: dict[str, str], *, for_program: bool) -> None:
    """Print events until SIGINT, SIGTERM or SIGHUP, or until the reader of a pipe has ended."""
    with stop_on_signals() as stopped:
        printing = asyncio.create_task(_print_events(settings, query, for_program=for_program))
        stopping = asyncio.create_task(stopped.wait())
        tasks = (printing, stopping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    # Cancelled by a signal, which is the usual end.
    if not printing.cancelled():
        printing.result()


async def _print_events(settings: ControlSettings, query: dict[str, str], *, for_program: bool) -> None:
    async with ControlClient(settings) as client, aclosing(client.stream(_STREAM.path, query)) as entries:
        async for entry in entries:
            try:
                print_stdout(json.dumps(entry) if for_program else _line(entry))
            except OutputError as error:
                # The reader of a pipe may end on purpose, like head.
                if error.is_pipe:
                    return
                raise


def _line(entry: JsonObject) -> str:
    time = str(entry.get("time")).replace("T", " ").partition(".")[0].removesuffix("Z")
    return printable(f"{entry.get('number')!s:>5}  {time}  {entry.get('summary')}")
