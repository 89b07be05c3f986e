"""A decision as commands show it: fields for people, a document for programs, an exit code for the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veriff_async import Status
from veriff_async.cli._runtime import ExitCode

if TYPE_CHECKING:
    from veriff_async import Decision
    from veriff_async.cli._output import Output

__all__ = ("decision_document", "decision_fields", "exit_code_of", "person_fields", "print_decision")


def exit_code_of(decision: Decision | None) -> ExitCode:
    """Return the exit code; ``review`` counts as undecided because it announces another decision."""
    if decision is None or decision.status == Status.REVIEW:
        return ExitCode.UNDECIDED
    return ExitCode.DONE if decision.status == Status.APPROVED else ExitCode.NOT_APPROVED


def print_decision(output: Output, decision: Decision, *, show_person: bool) -> None:
    """Show a decision to people, with personal data only if `show_person`."""
    output.print_fields("Decision", decision_fields(decision) | (person_fields(decision) if show_person else {}))


def decision_document(session_id: str, decision: Decision | None, *, show_person: bool) -> dict[str, object]:
    """Return the JSON document of a decision, with personal data only if `show_person`."""
    document: dict[str, object] = {
        "session_id": session_id,
        "decision": None if decision is None else decision_fields(decision),
    }
    if show_person and decision is not None:
        document |= {"person": person_fields(decision), "raw": decision.raw}
    return document


def decision_fields(decision: Decision) -> dict[str, str | int | None]:
    """Return the fields of a decision that are not personal data."""
    decided_at = decision.decision_time
    return {
        "session_id": decision.session_id,
        "status": str(decision.status),
        "code": decision.code,
        "reason": decision.reason,
        "reason_code": decision.reason_code,
        "decision_time": decided_at.isoformat() if decided_at else None,
    }


def person_fields(decision: Decision) -> dict[str, str | int | None]:
    """Return the personal data of a decision. Callers check ``--show-person`` first."""
    person, document = decision.person, decision.document
    return {
        "first_name": person.first_name,
        "last_name": person.last_name,
        "date_of_birth": person.date_of_birth,
        "document_type": document.type and str(document.type),
        "document_country": document.country,
        "document_number": document.number,
    }
