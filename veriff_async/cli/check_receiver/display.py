"""The report for people: what is wrong, why it matters, and how to fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async._protocol.counts import format_count
from veriff_async.testing import CaseOutcome, CaseSeverity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async.cli._output import Output
    from veriff_async.testing import CaseResult, Fix, ReceiverCase, ReceiverReport

__all__ = ("print_cases", "print_report")

_STYLES: Final = {CaseSeverity.ERROR: "bold red", CaseSeverity.WARNING: "yellow", CaseSeverity.NOTE: "cyan"}
_INDENT: Final = 10


def print_cases(output: Output, cases: Sequence[ReceiverCase]) -> None:
    """List the cases by group."""
    group = ""
    for case in cases:
        if case.group.value != group:
            group = case.group.value
            output.print(group, style="bold")
        output.print(f"  {case.name:<30} {case.severity.value:<8} {case.sends}", indent=42)


def print_report(output: Output, report: ReceiverReport, *, framework: str | None) -> None:
    """Write the failed cases, their remedies, the cases that were not checked, and a summary."""
    # Many cases may fail in the same way, for one cause: the first is explained.
    alike: dict[tuple[object, ...], list[CaseResult]] = {}
    for result in report.failed:
        case = result.case
        key = (result.severity, case.group, case.expects, case.fix.name, result.message)
        alike.setdefault(key, []).append(result)
    explained: dict[str, str] = {}
    for first, *others in alike.values():
        name = explained.setdefault(first.case.why, first.case.name)
        _print_failure(output, first, others, why="" if name == first.case.name else f"as for {name}.")
    _print_fixes(output, report, framework)
    _print_not_checked(output, report)
    output.print(f"\n{_summary(report)}", style="bold")


def _print_failure(output: Output, result: CaseResult, others: Sequence[CaseResult], *, why: str) -> None:
    case = result.case
    output.print(f"\n{result.severity.value.upper()}  {case.name}", style=_STYLES[result.severity])
    for label, text in (
        ("sent", f"{case.sends}."),
        ("expected", f"{case.expects}."),
        ("found", result.message),
        ("why", why or f"{case.why} ({case.source})"),
        ("also", ", ".join(other.case.name for other in others)),
        ("fix", f"see {case.fix.name} below."),
    ):
        if text:
            output.print(f"  {label:<{_INDENT}}{text}", indent=_INDENT + 2)


def _print_fixes(output: Output, report: ReceiverReport, framework: str | None) -> None:
    fixes: dict[str, Fix] = {result.case.fix.name: result.case.fix for result in report.failed}
    if fixes:
        output.print("\nHow to fix it", style="bold")
    for fix in fixes.values():
        names = ", ".join(result.case.name for result in report.failed if result.case.fix.name == fix.name)
        output.print("")
        output.print(f"{fix.name}  ({names})", style="bold", indent=2)
        output.print(f"  {fix.text}", indent=2)
        chosen = {name: text for name, text in fix.frameworks.items() if framework is None or name.lower() == framework}
        for name, text in chosen.items():
            output.print(f"  {name:<{_INDENT}}{text}", indent=_INDENT + 2)


def _print_not_checked(output: Output, report: ReceiverReport) -> None:
    """Write what was not checked, cases with the same reason together."""
    names_of: dict[str, list[str]] = {}
    for result in report.results:
        if result.outcome is CaseOutcome.NOT_CHECKED:
            names_of.setdefault(result.message.removeprefix("All were accepted. "), []).append(result.case.name)
    if names_of:
        output.print("\nNot checked", style="bold")
    for message, names in names_of.items():
        output.print(f"  {', '.join(names)}", indent=2)
        output.print(f"    {message}", style="dim", indent=4)


def _summary(report: ReceiverReport) -> str:
    if report.problem:
        return f"The endpoint is not reachable: {report.problem}."
    counts = report.counts()
    failed = [format_count(counts[each.value], each.value) for each in CaseSeverity]
    words = ", ".join([f"{counts['passed']} passed", *failed, f"{counts['not_checked']} not checked"])
    return f"{words}, in {report.seconds:.1f} s."
