"""Runs the cases against an endpoint."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from attrs import evolve

from veriff_async._protocol.arguments import (
    accepts_arguments,
    check_function,
    check_number,
    check_text,
    describe_value,
    type_name,
)
from veriff_async._protocol.request_arguments import check_credentials
from veriff_async.errors import ConfigurationError
from veriff_async.testing.receiver_check._address import is_local
from veriff_async.testing.receiver_check._asgi_server import AsgiServer, serve_app
from veriff_async.testing.receiver_check._case import CaseOutcome, CaseSeverity, Finding
from veriff_async.testing.receiver_check._cases import ALL_CASES
from veriff_async.testing.receiver_check._context import (
    VENDOR_DATA,
    CheckContext,
    CheckOptions,
    HookError,
    SessionsUsedError,
)
from veriff_async.testing.receiver_check._http_client import Endpoint
from veriff_async.testing.receiver_check._report import CaseResult, ReceiverReport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence

    from veriff_async.credentials import Credentials
    from veriff_async.testing.receiver_check._case import RunnableCase
    from veriff_async.testing.receiver_check._context import CountEffects, SetFailing

__all__ = ("check_receiver", "select_cases")


_DECISION: Final = "decision-approved"
_FIX_FIRST: Final = Finding.not_checked(f"An ordinary decision is not accepted: fix {_DECISION} first.")
_TIME_OVER: Final = Finding.not_checked("The time for the whole check was over.")


async def check_receiver(  # noqa: PLR0913  all but two have a default
    receiver: str | Callable[..., Awaitable[object]],
    credentials: Credentials,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    path: str = "/",
    count_effects: CountEffects | None = None,
    set_failing: SetFailing | None = None,
    revoked_secret: str | None = None,
    vendor_data: str = VENDOR_DATA,
    session_ids: Iterable[str] | None = None,
    allow_remote: bool = False,
    deadline: float = 5.0,
    slow_seconds: float = 1.0,
    stall_seconds: float | None = None,
    large_bytes: int = 8 * 1024 * 1024,
    effect_seconds: float = 5.0,
    settle_seconds: float = 0.2,
    timeout: float = 300.0,  # noqa: ASYNC109  results that exist at its end are returned
    tls: ssl.SSLContext | None = None,
    on_result: Callable[[CaseResult], object] | None = None,
) -> ReceiverReport:
    """Check a webhook endpoint in any language: whether it accepts what Veriff sends and refuses everything else.

    The cases run one after the other and send about 130 webhooks about sessions that do not exist. Their
    ``vendorData`` is ``veriff-async check-receiver``. They are signed with your credentials, so the endpoint processes
    them like Veriff's: use a test system.

    Responses alone do not show whether an event takes effect exactly once. Without `count_effects` and `set_failing`,
    the cases about that are reported as not checked.

    Args:
        receiver: The URL of the endpoint, or an ASGI application of this process, which is served on a local port.
        credentials: The credentials that the endpoint has.
        only: Names of cases or groups to run; by default all.
        skip: Names of cases or groups to leave out.
        path: The path of an application.
        count_effects: Returns what your system did with the decisions of a session: a number or `Effects`; a function
            or a coroutine function.
        set_failing: Makes the work of your system fail (``True``), and lets it succeed again (``False``).
        revoked_secret: A secret that you have deleted in the Customer Portal.
        vendor_data: The ``vendorData`` of the webhooks, for an endpoint that finds its users by it.
        session_ids: Ids of sessions that your system knows, about 100, for an endpoint that refuses others.
        allow_remote: Whether to send to another host than this machine.
        deadline: Seconds in which a response counts; integrators report about five for Veriff.
        slow_seconds: How long a slow body takes.
        stall_seconds: How long to wait for the end of a request whose body stops; ``None`` leaves that case out.
        large_bytes: Size of a body that is too large.
        effect_seconds: How long to wait for an effect.
        settle_seconds: How long to wait for an effect that must not happen.
        timeout: Seconds for the whole check; cases that are left then are reported as not checked.
        tls: How to check the certificate; by default with the authorities of the system.
        on_result: Called with each result.

    Returns:
        A report with a result for each case. It contains no secrets.

    Raises:
        ConfigurationError: An argument cannot work, the host is not this machine, a name of a case is unknown, or the
            application does not start.

    Example:
        >>> report = await check_receiver("http://localhost:8000/webhooks/veriff", Credentials.from_env())
        >>> assert report.is_ok, [result.message for result in report.failed]
    """
    cases = select_cases(only=only, skip=skip)
    _check_numbers(deadline=deadline, effect_seconds=effect_seconds, timeout=timeout, large_bytes=large_bytes)
    _check_numbers(may_be_zero=True, slow_seconds=slow_seconds, settle_seconds=settle_seconds)
    if stall_seconds is not None:
        _check_numbers(stall_seconds=stall_seconds)
    check_function("count_effects", count_effects, may_be_async=True, takes=("a session id",))
    check_function("set_failing", set_failing, may_be_async=True, takes=("a bool",))
    options = CheckOptions(
        path=path,
        deadline=deadline,
        slow_seconds=slow_seconds,
        stall_seconds=stall_seconds,
        large_bytes=large_bytes,
        effect_seconds=effect_seconds,
        settle_seconds=settle_seconds,
        revoked_secret=revoked_secret,
        vendor_data=check_text("vendor_data", vendor_data),
        sessions=None if session_ids is None else iter(session_ids),
        count_effects=count_effects,
        set_failing=set_failing,
        tls=tls,
        allow_remote=allow_remote,
        timeout=timeout,
    )
    return await _run_cases(receiver, check_credentials(credentials), cases, options, on_result)


def _check_numbers(*, may_be_zero: bool = False, **values: float) -> None:
    for name, value in values.items():
        remedy = "give zero or more" if may_be_zero else "give a number above zero"
        check_number(name, value, above=not may_be_zero, remedy=remedy)


def select_cases(*, only: Iterable[str] = (), skip: Iterable[str] = ()) -> tuple[RunnableCase, ...]:
    """Return the cases with some names or groups.

    Raises:
        ConfigurationError: A name is neither a case nor a group.
    """
    chosen, left_out = set(only), set(skip)
    known = {case.name for case in ALL_CASES} | {case.group.value for case in ALL_CASES}
    for name in sorted((chosen | left_out) - known):
        msg = f"No case has the name {describe_value(name)}: list the names with veriff-async check-receiver --list."
        raise ConfigurationError(msg)

    def matches(case: RunnableCase, names: set[str]) -> bool:
        return case.name in names or case.group.value in names

    return tuple(
        case
        for case in ALL_CASES
        if (not chosen or matches(case, chosen)) and not (case.name not in chosen and matches(case, left_out))
    )


async def _run_cases(
    receiver: str | Callable[..., Awaitable[object]],
    credentials: Credentials,
    cases: Sequence[RunnableCase],
    options: CheckOptions,
    on_result: Callable[[CaseResult], object] | None,
) -> ReceiverReport:
    began = monotonic()
    results: list[CaseResult] = []
    session_ids: list[str] = []
    known_success: int | None = None
    async with _open_endpoint(receiver, options) as (endpoint, server):
        problem = await endpoint.find_problem()
        for case in () if problem else cases:
            context = CheckContext(endpoint, credentials, options, known_success)
            finding = _FIX_FIRST if case.needs_acceptance and _is_decision_refused(results) else None
            result = await _run_case(case, context, finding, left=began + options.timeout - monotonic())
            errors = [] if server is None else server.pop_errors()
            if errors and result.outcome is CaseOutcome.FAILED:
                result = evolve(result, message=f"{result.message} The application raised {errors[0]}.")
            session_ids += context.session_ids
            if case.name == _DECISION:
                known_success = _find_other_success(context)
            results.append(result)
            if on_result is not None:
                on_result(result)
    return ReceiverReport(
        results=tuple(results), problem=problem, session_ids=tuple(session_ids), seconds=monotonic() - began
    )


def _find_other_success(context: CheckContext) -> int | None:
    """Return the success other than 200 of a decision, so that it is reported once and not for each webhook."""
    statuses = [reply.status for reply, _ in context.replies if not reply.problem]
    return next((status for status in statuses if status is not None and 200 < status < 300), None)  # noqa: PLR2004


def _is_decision_refused(results: Sequence[CaseResult]) -> bool:
    return any(result.is_error and result.case.name == _DECISION for result in results)


async def _run_case(
    case: RunnableCase, context: CheckContext, finding: Finding | None = None, *, left: float
) -> CaseResult:
    began = monotonic()
    if finding is None and left <= 0:
        finding = _TIME_OVER
    if finding is None:
        finding = _TIME_OVER
        try:
            async with asyncio.timeout(left):
                finding = await case.run(context)
        except TimeoutError:
            pass
        except SessionsUsedError:
            finding = Finding.not_checked("All given session ids are used: give more.")
        except HookError as error:
            finding = Finding.failed(f"The case cannot be checked: {error}.")
    return CaseResult(
        case=case,
        outcome=finding.outcome,
        severity=_lower(finding.severity, case.severity),
        message=finding.message,
        seconds=monotonic() - began,
    )


def _lower(found: CaseSeverity | None, of_case: CaseSeverity) -> CaseSeverity:
    """Return the lower severity: a finding never makes a case more severe."""
    order = list(CaseSeverity)
    return of_case if found is None else max(found, of_case, key=order.index)


@asynccontextmanager
async def _open_endpoint(
    receiver: str | Callable[..., Awaitable[object]], options: CheckOptions
) -> AsyncGenerator[tuple[Endpoint, AsgiServer | None]]:
    if isinstance(receiver, str):
        _check_url(receiver, allow_remote=options.allow_remote)
        tls = options.tls
        if tls is None and receiver.startswith("https:"):
            tls = await asyncio.to_thread(ssl.create_default_context)
        yield Endpoint(receiver, tls if receiver.startswith("https:") else None, options.deadline), None
        return
    _check_app(receiver)
    if not options.path.startswith("/"):
        msg = "path must begin with a slash: pass the path at which the application receives webhooks."
        raise ConfigurationError(msg)
    async with serve_app(receiver) as server:
        yield Endpoint(server.url + options.path, None, options.deadline), server


def _check_app(receiver: object) -> None:
    if not callable(receiver) or isinstance(receiver, type) or not accepts_arguments(receiver, 3):
        msg = (
            f"receiver must be a URL or an ASGI application, not {type_name(receiver)}: start an application of "
            "another kind in its server, and pass the URL."
        )
        raise ConfigurationError(msg)


def _check_url(url: str, *, allow_remote: bool) -> None:
    try:
        # `urlsplit` raises ValueError for unmatched brackets, and `port` for a number above 65535.
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good, parts = False, urlsplit("")
    if not is_good or not url.isprintable() or " " in url or not url.isascii():
        msg = "receiver is not a URL: pass http://... or https://... or an ASGI application."
        raise ConfigurationError(msg)
    if parts.username is not None or parts.password is not None:
        msg = "The URL of the receiver contains a name or password, which Veriff does not send: leave it out."
        raise ConfigurationError(msg)
    if not allow_remote and not is_local(parts.hostname or ""):
        msg = (
            "The receiver is on another host, and the test webhooks would reach a real system: pass allow_remote=True "
            "(--yes) if it is yours and may get them."
        )
        raise ConfigurationError(msg)
