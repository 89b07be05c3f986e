"""The results of a check, for programs and for continuous integration."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from attrs import field, frozen

from veriff_async.testing.receiver_check._case import CaseOutcome, CaseSeverity, ReceiverCase

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("CaseResult", "ReceiverReport")

# Everything but the characters that XML allows: https://www.w3.org/TR/xml/#charsets.
_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


@frozen(kw_only=True)
class CaseResult:
    """The result of one case.

    Attributes:
        case: The case.
        outcome: The outcome.
        severity: How bad a failure is: that of the case, or a lower one.
        message: The finding, or how to enable a case that was not checked.
        seconds: How long it took.
    """

    case: ReceiverCase
    outcome: CaseOutcome
    severity: CaseSeverity
    message: str
    seconds: float = 0.0

    @property
    def is_error(self) -> bool:
        """Whether the case failed with the severity error."""
        return self.outcome is CaseOutcome.FAILED and self.severity is CaseSeverity.ERROR

    def to_dict(self) -> dict[str, object]:
        """Return the result for ``json.dumps``."""
        case = self.case
        return {
            "name": case.name,
            "group": case.group.value,
            "outcome": self.outcome.value,
            "severity": self.severity.value,
            "message": self.message,
            "seconds": round(self.seconds, 4),
            "sends": case.sends,
            "expects": case.expects,
            "why": case.why,
            "source": case.source,
            "fix": case.fix.text,
            "frameworks": dict(case.fix.frameworks),
        }


@frozen(kw_only=True)
class ReceiverReport:
    """The results of all cases. It contains no secrets, and no bodies of responses.

    Attributes:
        results: A result for each selected case, in the order of `veriff_async.testing.RECEIVER_CASES`.
        problem: Why the endpoint could not be reached, if so; then no case was checked.
        session_ids: The ids of all sessions in the webhooks that were sent. Their ``vendorData`` is
            ``veriff-async check-receiver``.
        seconds: How long the check took.
    """

    results: tuple[CaseResult, ...]
    problem: str = ""
    session_ids: tuple[str, ...] = field(default=(), repr=False)
    seconds: float = 0.0

    @property
    def is_ok(self) -> bool:
        """Whether the endpoint was reached and no case failed with the severity error."""
        return not self.problem and not any(result.is_error for result in self.results)

    @property
    def failed(self) -> tuple[CaseResult, ...]:
        """The failed cases, errors first, then warnings and notes."""
        failed = [result for result in self.results if result.outcome is CaseOutcome.FAILED]
        return tuple(sorted(failed, key=lambda result: list(CaseSeverity).index(result.severity)))

    def counts(self) -> Mapping[str, int]:
        """Return the number of results: ``passed``, ``error``, ``warning``, ``note`` and ``not_checked``."""
        counts = Counter(
            result.severity.value if result.outcome is CaseOutcome.FAILED else result.outcome.value
            for result in self.results
        )
        names = ("passed", *(severity.value for severity in CaseSeverity), CaseOutcome.NOT_CHECKED.value)
        return {name: counts[name] for name in names}

    def to_dict(self) -> dict[str, object]:
        """Return the report for ``json.dumps``."""
        return {
            "ok": self.is_ok,
            "problem": self.problem or None,
            "seconds": round(self.seconds, 3),
            "counts": dict(self.counts()),
            "session_ids": list(self.session_ids),
            "results": [result.to_dict() for result in self.results],
        }

    def to_junit(self) -> str:
        """Return the report as XML in the form of JUnit, which continuous integration reads.

        Only errors are failures there; warnings and notes are in the output of their test.
        """
        failures = sum(result.is_error for result in self.results)
        skipped = sum(result.outcome is CaseOutcome.NOT_CHECKED for result in self.results)
        suite = ET.Element(
            "testsuite",
            name="veriff-async check-receiver",
            tests=str(len(self.results) + bool(self.problem)),
            failures=str(failures),
            errors=str(int(bool(self.problem))),
            skipped=str(skipped),
            time=f"{self.seconds:.3f}",
        )
        for result in self.results:
            suite.append(_test_case(result))
        if self.problem:
            unreachable = ET.SubElement(suite, "testcase", classname="receiver", name="reachable", time="0")
            ET.SubElement(unreachable, "error", message=_clean(self.problem))
        root = ET.Element("testsuites")
        root.append(suite)
        ET.indent(root)
        return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _clean(text: str) -> str:
    """Replace characters that XML forbids, which may come from names of files and from functions of the user."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _test_case(result: CaseResult) -> ET.Element:
    case, message = result.case, _clean(result.message)
    element = ET.Element(
        "testcase", classname=f"receiver.{case.group.value}", name=case.name, time=f"{result.seconds:.3f}"
    )
    text = f"Sent: {case.sends}\nExpected: {case.expects}\nWhy: {case.why}\nSource: {case.source}\nFix: {case.fix.text}"
    if result.outcome is CaseOutcome.NOT_CHECKED:
        ET.SubElement(element, "skipped", message=message)
    elif result.is_error:
        ET.SubElement(element, "failure", message=message, type=result.severity.value).text = text
    elif result.outcome is CaseOutcome.FAILED:
        ET.SubElement(element, "system-out").text = f"{result.severity.value}: {message}\n{text}"
    return element
