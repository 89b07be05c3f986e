"""The contract of webhook endpoints: one test for each case of `check_receiver`."""

from __future__ import annotations

import unittest
import warnings
from typing import TYPE_CHECKING, ClassVar

from veriff_async.testing._harness import run_in_new_loop
from veriff_async.testing.receiver_check._case import CaseOutcome
from veriff_async.testing.receiver_check._cases import RECEIVER_CASES
from veriff_async.testing.receiver_check._runner import check_receiver

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from veriff_async.credentials import Credentials
    from veriff_async.testing.receiver_check._case import ReceiverCase
    from veriff_async.testing.receiver_check._context import Effects

__all__ = ("ReceiverContract", "ReceiverWarning")


class ReceiverWarning(UserWarning):
    """A case of the contract that failed with the severity warning or note."""


class ReceiverContract:
    """The rules of webhook endpoints, one test each, for an endpoint that you write, in any framework.

    Create a subclass in a module of your tests, with a method `receiver` that returns the URL of a running endpoint or
    an ASGI application, and the credentials that it has. The tests are synchronous methods, for pytest and, together
    with ``unittest.TestCase``, for unittest; each runs its own event loop, in which an application is started and
    stopped. A case that needs more than is there, for example a second secret or `count_effects`, is skipped, and the
    reason says what to add. Errors fail a test; warnings and notes are a `ReceiverWarning`.

    The attributes are options of `check_receiver`.

    Attributes:
        credentials: The credentials that the endpoint has.
        path: The path of an application.
        deadline: Seconds in which a response counts.
        slow_seconds: How long a slow body takes.
        stall_seconds: How long to wait for the end of a request whose body stops; ``None`` skips that case.
        effect_seconds: How long to wait for an effect.
        settle_seconds: How long to wait for an effect that must not happen.
        revoked_secret: A secret that you have deleted in the Customer Portal.
        allow_remote: Whether to send to another host than this machine.
        tls: How to check the certificate of a URL.

    Example:
        >>> class TestWebhooks(ReceiverContract):
        ...     credentials = Credentials("api-key", "secret")
        ...     path = "/webhooks/veriff"
        ...
        ...     def receiver(self) -> object:
        ...         return create_app(self.credentials)
        ...
        ...     async def count_effects(self, session_id: str) -> int:
        ...         return await count_rows(session_id)
    """

    credentials: ClassVar[Credentials]
    path: ClassVar[str] = "/"
    deadline: ClassVar[float] = 5.0
    slow_seconds: ClassVar[float] = 0.1
    stall_seconds: ClassVar[float | None] = None
    effect_seconds: ClassVar[float] = 5.0
    settle_seconds: ClassVar[float] = 0.05
    revoked_secret: ClassVar[str | None] = None
    allow_remote: ClassVar[bool] = False
    tls: ClassVar[ssl.SSLContext | None] = None

    def receiver(self) -> str | Callable[..., Awaitable[object]]:
        """Return the URL of the endpoint, or an ASGI application; called once for each test."""
        raise NotImplementedError

    async def count_effects(self, session_id: str) -> Effects | int:
        """Return what your system did with the decisions of a session.

        Args:
            session_id: The session.
        """
        raise NotImplementedError

    async def set_failing(self, is_failing: bool) -> None:  # noqa: FBT001  it is the only argument
        """Make the work of your system fail, or let it succeed again.

        Args:
            is_failing: Whether it fails from now on.
        """
        raise NotImplementedError


def _make_test(case: ReceiverCase) -> Callable[[ReceiverContract], None]:
    async def run(self: ReceiverContract) -> None:
        kind = type(self)
        report = await check_receiver(
            self.receiver(),
            self.credentials,
            only=[case.name],
            path=self.path,
            count_effects=None if kind.count_effects is ReceiverContract.count_effects else self.count_effects,
            set_failing=None if kind.set_failing is ReceiverContract.set_failing else self.set_failing,
            revoked_secret=self.revoked_secret,
            allow_remote=self.allow_remote,
            deadline=self.deadline,
            slow_seconds=self.slow_seconds,
            stall_seconds=self.stall_seconds,
            effect_seconds=self.effect_seconds,
            settle_seconds=self.settle_seconds,
            tls=self.tls,
        )
        if report.problem:
            msg = f"The endpoint is not reachable: {report.problem}."
            raise AssertionError(msg)
        (result,) = report.results
        if result.outcome is CaseOutcome.NOT_CHECKED:
            raise unittest.SkipTest(result.message)
        if result.outcome is CaseOutcome.FAILED:
            msg = (
                f"{result.message}\nSent: {case.sends}. Expected: {case.expects}.\n{case.why} ({case.source})\n"
                f"Fix: {case.fix.text}"
            )
            if result.is_error:
                raise AssertionError(msg)
            warnings.warn(f"{case.name}: {msg}", ReceiverWarning, stacklevel=1)

    def test(self: ReceiverContract) -> None:
        run_in_new_loop(run(self))

    test.__name__ = f"test_{case.name.replace('-', '_')}"
    test.__qualname__ = f"ReceiverContract.{test.__name__}"
    test.__doc__ = f"The endpoint gets {case.sends}, and must {case.expects}."
    return test


for _case in RECEIVER_CASES:
    setattr(ReceiverContract, f"test_{_case.name.replace('-', '_')}", _make_test(_case))
