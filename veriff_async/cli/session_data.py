"""The commands that show what Veriff stores about a session, and the one that deletes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from veriff_async.cli._env_file import create_client
from veriff_async.cli._model_format import show_models
from veriff_async.cli._options import env_file_option, json_option, proxy_option, show_person_option
from veriff_async.cli._runtime import confirm, current_command, print_json, run, stdout_output

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from veriff_async import VeriffClient, VerificationSession

__all__ = ("ID", "attempts", "call", "call_session", "client_options", "delete", "person", "watchlist")

_F = TypeVar("_F", bound="Callable[..., Any]")
_T = TypeVar("_T")

ID: Final = click.argument("session_id", metavar="ID")


def client_options(command: _F) -> _F:
    """Add the options of a command that sends requests and shows models."""
    return show_person_option(proxy_option(env_file_option(json_option(command))))


def call(env_file: Path | None, request: Callable[[VeriffClient], Awaitable[_T]]) -> _T:
    """Call a function with a client, and close the client."""
    veriff = create_client(env_file)

    async def work() -> _T:
        async with veriff:
            return await request(veriff)

    return run(work())


def call_session(env_file: Path | None, session_id: str, request: Callable[[VerificationSession], Awaitable[_T]]) -> _T:
    """Call a function with a session; see `call`."""

    async def work(veriff: VeriffClient) -> _T:
        session = veriff.session(session_id)
        current_command().facts["session_id"] = session.id  # for the documents of errors
        return await request(session)

    return call(env_file, work)


@click.command()
@ID
@client_options
def attempts(*, session_id: str, show_person: bool, env_file: Path | None, for_program: bool) -> None:  # noqa: ARG001
    """List the attempts of session ID, the newest first."""
    result = call_session(env_file, session_id, lambda session: session.attempts())
    columns = ("id", "status", "created_time")
    show_models("attempts", result, columns=columns, show_person=show_person, session_id=session_id)


@click.command()
@ID
@client_options
def person(*, session_id: str, show_person: bool, env_file: Path | None, for_program: bool) -> None:  # noqa: ARG001
    """Show the person of session ID, with --show-person, and the searches in lists of persons."""
    result = call_session(env_file, session_id, lambda session: session.person())
    show_models("person", result, show_person=show_person, session_id=session_id)


@click.command()
@ID
@client_options
def watchlist(*, session_id: str, show_person: bool, env_file: Path | None, for_program: bool) -> None:  # noqa: ARG001
    """Show the watchlist screening of session ID; its hits are personal data."""
    result = call_session(env_file, session_id, lambda session: session.watchlist_screening())
    show_models("watchlist", result, show_person=show_person, session_id=session_id)


@click.command()
@ID
@click.option("--yes", is_flag=True, help="Delete without a question; needed where no terminal is.")
@proxy_option
@env_file_option
@json_option
def delete(*, session_id: str, yes: bool, env_file: Path | None, for_program: bool) -> None:
    """Delete session ID with all its data at Veriff. This cannot be undone.

    Veriff deletes the data within twelve hours, and only if the integration may delete: it allows five deletions an
    hour and ten a day.
    """
    if not yes:
        confirm(f"Delete session {session_id} with all its data? This cannot be undone.", "Nothing was deleted.")
    call_session(env_file, session_id, lambda session: session.delete())
    if for_program:
        print_json({"session_id": session_id, "deleted": True})
    else:
        stdout_output().print(f"Session {session_id} is deleted.")
