"""Ask or wait for the decision on a session that is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from attrs import frozen

from veriff_async import NotFoundError
from veriff_async.cli._options import env_file_option, json_option, proxy_option, show_person_option, timeout_option
from veriff_async.cli._runtime import course, print_json, progress_screen, result_screen, run
from veriff_async.cli._settings import client_from_settings
from veriff_async.cli.decision_output import again, document_of, exit_of

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async import Decision, VeriffClient
    from veriff_async.cli._output import Screen
    from veriff_async.cli._runtime import Course

__all__ = ("Patience", "decision", "run_decision")


@frozen(kw_only=True)
class Patience:
    """How to wait.

    Attributes:
        seconds: How long.
        advice: How to go on when the wait breaks off.
    """

    seconds: float
    advice: str


@click.command()
@click.argument("session_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until Veriff has decided; without it, ask once.")
@timeout_option
@show_person_option
@proxy_option
@env_file_option
@json_option
def decision(  # noqa: PLR0913  the options of the command
    *, session_id: str, wait: bool, timeout: float, show_person: bool, env_file: Path | None, for_program: bool
) -> None:
    """Show the decision on session ID, or wait for it.

    The exit code is 0 for approved, 3 for any other decision, 4 when there is none yet or none came in time.
    A decision `review` announces another one, so it counts as none yet.
    """
    advice = "To go on waiting: " + again(f"decision {session_id} --wait", env_file)
    veriff = client_from_settings(env_file)
    patience = Patience(seconds=timeout, advice=advice) if wait else None
    found = run(run_decision(veriff, session_id, patience, progress_screen(), course()))
    if for_program:
        print_json(document_of(session_id, found, show_person=show_person))
    elif found is None:
        result_screen().say(f"Session {session_id} has no decision yet.")
    else:
        result_screen().decision(found, show_person=show_person)
    raise SystemExit(exit_of(found))


async def run_decision(
    veriff: VeriffClient, session_id: str, patience: Patience | None, screen: Screen, course: Course
) -> Decision | None:
    """Ask once, or wait, with a client that is closed at the end.

    Args:
        veriff: The client.
        session_id: The session.
        patience: How to wait, or `None` to ask once.
        screen: Where to show that something is waited for.
        course: Told that there is something to go on with.
    """
    async with veriff:
        session = veriff.session(session_id)
        course.facts["session_id"] = session.id
        if patience is None:
            return await session.decision()
        course.reached(patience.advice)
        try:
            with screen.waiting("Waiting for the decision; Ctrl-C is safe, the session goes on"):
                return await session.wait_for_decision(timeout=patience.seconds)
        except NotFoundError:
            course.reached("")  # there is nothing to go on with
            raise
