"""The text that travels through an inbox: in which trace a session was created or submitted, and when submitted.

Only the ``traceparent`` and ``tracestate`` of https://www.w3.org/TR/trace-context/ are stored, also if the application
has configured other propagators: baggage may hold personal data.
"""

from __future__ import annotations

import json
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Final, cast

from opentelemetry.context import Context
from opentelemetry.trace import Link, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("dump_submission", "links_to", "submission_time")

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_TIME: Final = "submitted_at"


def dump_submission(now: float | None) -> str:
    """Return the text for the current trace and the time of the submission, in seconds since 1970, if there was one."""
    members: dict[str, str] = {}
    _PROPAGATOR.inject(members)
    return json.dumps(members if now is None else {**members, _TIME: now}, separators=(",", ":"))


def links_to(submission: str | None) -> Sequence[Link]:
    """Return a link to the trace of a submission, or none if the text has no trace."""
    carrier = {name: text for name, text in _load(submission).items() if isinstance(text, str)}
    if not carrier:
        return ()
    context = get_current_span(_PROPAGATOR.extract(carrier, Context())).get_span_context()
    return (Link(context, {"veriff.link": "submission"}),) if context.is_valid else ()


def submission_time(submission: str | None) -> float | None:
    """Return the time of a submission in seconds since 1970, if the text has it."""
    moment = _load(submission).get(_TIME)
    return moment if isinstance(moment, float) and isfinite(moment) else None


def _load(submission: object) -> Mapping[str, object]:
    # An inbox may return anything.
    return _parse(submission) if isinstance(submission, str) else {}


@lru_cache(maxsize=64)  # a webhook reads the same text up to three times
def _parse(submission: str) -> Mapping[str, object]:
    try:
        members: object = json.loads(submission)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", members) if isinstance(members, dict) else {}
