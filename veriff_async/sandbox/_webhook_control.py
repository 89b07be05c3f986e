"""The actions of tests and people on webhooks. `Sandbox` and the control API call the same methods.

Each method holds the lock of `SandboxService` for one step of `WebhookQueue`, and wakes the scheduler.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async._protocol.arguments import type_name
from veriff_async.errors import InvalidArgumentError
from veriff_async.sandbox._arguments import check_number, check_text, check_word
from veriff_async.sandbox._records import WebhookKind
from veriff_async.sandbox._webhook_records import Selection, WebhookState, view_webhook

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from veriff_async.sandbox._webhook_queue import WebhookQueue
    from veriff_async.sandbox._webhook_records import WebhookPage, WebhookRecord, WebhookView

__all__ = ("WebhookControl",)

_MAX_LIMIT: Final = 1000


@frozen
class WebhookControl:
    """Lists webhooks, and holds, delivers, delays, repeats, reorders and drops them.

    Attributes:
        queue: The webhooks.
        at_present: Holds the lock, runs everything that is due, and gives the time.
        wake: Wakes the scheduler.
        build: Builds a webhook of a session, kind and body, with the present URL and credentials.
        check_session: Raises an error for a session that does not exist.
    """

    queue: WebhookQueue
    at_present: Callable[[], AbstractContextManager[datetime]]
    wake: Callable[[], None]
    build: Callable[[str, WebhookKind, bytes, datetime], WebhookRecord]
    check_session: Callable[[str], object]

    def find(
        self,
        *,
        session_id: str | None = None,
        kind: str | None = None,
        state: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> WebhookPage:
        """List webhooks, newest first.

        Args:
            session_id: Only those of a session.
            kind: Only those of a kind.
            state: Only those in a state.
            after: The id of the last webhook of the page before.
            limit: Number of webhooks on the page, from 1 to 1,000.

        Raises:
            InvalidArgumentError: An argument has the wrong type, or session or webhook do not exist.
        """
        check_number("limit", limit, lowest=1, highest=_MAX_LIMIT, whole=True)
        if state is not None:
            check_word("state", state, WebhookState)
        if after is not None:
            check_text("after", after)
        with self.at_present():
            selection = self._select(session_id, kind)
            return self.queue.page(selection, None if state is None else WebhookState(state), after=after, limit=limit)

    def views(self) -> tuple[WebhookView, ...]:
        """Show all webhooks, oldest first."""
        with self.at_present():
            return tuple(map(view_webhook, self.queue.records()))

    def get(self, webhook_id: str) -> WebhookView:
        """Show a webhook."""
        with self.at_present():
            return view_webhook(self._find(webhook_id))

    def hold(self, *, session_id: str | None = None, kind: str | None = None) -> int:
        """Hold webhooks, and those that come later; return how many were not held before."""
        with self.at_present():
            return self.queue.hold(self._select(session_id, kind))

    def release(self, *, session_id: str | None = None, kind: str | None = None) -> int:
        """Let held webhooks go, and those that come later; return how many were held."""
        with self.at_present():
            count = self.queue.release(self._select(session_id, kind))
            self.wake()
        return count

    def deliver(self, webhook_id: str) -> None:
        """Post a webhook now, to the present URL of its kind.

        Raises:
            InvalidArgumentError: It does not exist, was delivered, is being posted, or has no URL.
        """
        with self.at_present() as now:
            record = self._find(webhook_id)
            present = self.build(record.session_id, record.kind, record.body, now)
            self.queue.deliver(record, now=now, url=present.url or record.url, headers=present.headers)
            self.wake()

    def delay(self, webhook_id: str, seconds: float) -> None:
        """Post a waiting webhook some seconds from now, instead of at its time.

        Raises:
            InvalidArgumentError: It does not exist, does not wait to be posted, or `seconds` is not a possible number.
        """
        check_number("seconds", seconds)
        with self.at_present() as now:
            self.queue.delay(self._find(webhook_id), now + timedelta(seconds=seconds))
            self.wake()

    def duplicate(self, webhook_id: str) -> str:
        """Post the same bytes once more, as another webhook; return its id."""
        with self.at_present() as now:
            record = self._find(webhook_id)
            copy = self.build(record.session_id, record.kind, record.body, now)
            copy.copy_of = record.id
            self.queue.add(copy)
            self.wake()
        return copy.id

    def drop(self, webhook_id: str) -> None:
        """Make no further attempt to deliver a webhook."""
        with self.at_present():
            self.queue.drop(self._find(webhook_id))
            self.wake()

    def reorder(self, webhook_ids: Sequence[str]) -> None:
        """Post waiting webhooks one after another, in this order.

        Raises:
            InvalidArgumentError: One does not exist, does not wait to be posted, or is named twice.
        """
        ids: object = webhook_ids
        # A text is a sequence of texts too, and a set has no order.
        if isinstance(ids, str | bytes) or not isinstance(ids, Sequence):
            msg = f"webhook_ids must be a list of ids, not {type_name(ids)}."
            raise InvalidArgumentError(msg)
        with self.at_present():
            self.queue.reorder([self._find(webhook_id) for webhook_id in webhook_ids])
            self.wake()

    def _find(self, webhook_id: str) -> WebhookRecord:
        return self.queue.get(check_text("webhook_id", webhook_id))

    def _select(self, session_id: str | None, kind: str | None) -> Selection:
        if session_id is not None:
            self.check_session(session_id)
        if kind is not None:
            check_word("kind", kind, WebhookKind)
        return Selection(session_id, None if kind is None else WebhookKind(kind))
