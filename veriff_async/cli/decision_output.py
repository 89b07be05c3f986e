"""A decision as the commands give it: to people, to programs, and to the shell."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from veriff_async import Status
from veriff_async.cli._exits import Exit
from veriff_async.cli._output import decision_facts, personal_facts
from veriff_async.cli._runtime import course

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async import Decision

_CONNECTING: Final = ("batch collect", "batch resume", "decision", "media", "verify")
"""The commands that have ``--proxy``."""

__all__ = ("again", "document_of", "exit_of")


def exit_of(decision: Decision | None) -> Exit:
    """Return what a decision is to the shell; ``review`` announces another one, so nothing is decided yet."""
    if decision is None or decision.status == Status.REVIEW:
        return Exit.UNDECIDED
    return Exit.DONE if decision.status == Status.APPROVED else Exit.NOT_APPROVED


def document_of(session_id: str, decision: Decision | None, *, show_person: bool) -> dict[str, object]:
    """Return what programs read: what is no personal data, and the rest only when that was asked for."""
    document: dict[str, object] = {
        "session_id": session_id,
        "decision": None if decision is None else decision_facts(decision),
    }
    if show_person and decision is not None:
        document |= {"person": personal_facts(decision), "raw": decision.raw}
    return document


def again(command: str, env_file: Path | None) -> str:
    """Return a command line to go on with, which speaks as the same integration and through the same proxy."""
    same = "" if env_file is None else f" --env-file {shlex.quote(str(env_file))}"
    proxy = course().proxy
    if proxy is not None and command.startswith(_CONNECTING):
        same += f" --proxy {shlex.quote(proxy)}"
    return f"veriff-async {command}{same}"
