"""The decision command: show the decision on an existing session, or wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from attrs import frozen

from veriff_async import NotFoundError
from veriff_async.cli._decision_format import decision_document, exit_code_of, print_decision
from veriff_async.cli._env_file import create_client
from veriff_async.cli._options import env_file_option, json_option, proxy_option, show_person_option, timeout_option
from veriff_async.cli._runtime import command_line, current_command, print_json, run, stderr_output, stdout_output

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async import Decision, VeriffClient
    from veriff_async.cli._output import Output
    from veriff_async.cli._runtime import CommandState

__all__ = ("WaitOptions", "decision", "run_decision")


@frozen(kw_only=True)
class WaitOptions:
    """How to wait.

    Attributes:
        timeout: Seconds.
        resume_hint: How to continue if the wait is interrupted.
    """

    timeout: float
    resume_hint: str


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
    resume_hint = "To continue waiting: " + command_line(f"decision {session_id} --wait", env_file)
    veriff = create_client(env_file)
    wait_options = WaitOptions(timeout=timeout, resume_hint=resume_hint) if wait else None
    result = run(run_decision(veriff, session_id, wait_options, stderr_output(), current_command()))
    if for_program:
        print_json(decision_document(session_id, result, show_person=show_person))
    elif result is None:
        stdout_output().print(f"Session {session_id} has no decision yet.")
    else:
        print_decision(stdout_output(), result, show_person=show_person)
    raise SystemExit(exit_code_of(result))


async def run_decision(
    veriff: VeriffClient, session_id: str, wait_options: WaitOptions | None, output: Output, state: CommandState
) -> Decision | None:
    """Ask once, or wait. The client is closed at the end."""
    async with veriff:
        session = veriff.session(session_id)
        state.facts["session_id"] = session.id
        if wait_options is None:
            return await session.decision()
        state.set_resume_hint(wait_options.resume_hint)
        try:
            with output.status("Waiting for the decision; Ctrl-C is safe, the session continues"):
                return await session.wait_for_decision(timeout=wait_options.timeout)
        except NotFoundError:
            state.set_resume_hint("")  # waiting again would not help
            raise
