"""The list of webhooks and the page of one webhook: their values and their handlers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async.errors import InvalidArgumentError
from veriff_async.models.json import EMPTY, as_object
from veriff_async.sandbox._arguments import LONGEST
from veriff_async.sandbox._console.display import describe_body, describe_time, label
from veriff_async.sandbox._console.forms import read_order
from veriff_async.sandbox._console.frame import finish
from veriff_async.sandbox._console.links import ORDER_PATH, WEBHOOKS_PATH, link, webhook_path
from veriff_async.sandbox._webhook_records import FINISHED, WebhookState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from aiohttp import web

    from veriff_async.sandbox._console.display import Body, Moment
    from veriff_async.sandbox._console.forms import Form
    from veriff_async.sandbox._console.frame import Frame
    from veriff_async.sandbox._records import Delivery
    from veriff_async.sandbox._webhook_records import WebhookPage, WebhookView

__all__ = (
    "WebhookHandlers",
    "describe_order",
    "describe_webhook",
    "describe_webhook_page",
    "describe_webhooks",
)

# A held webhook is a warning, because a receiver waits for it until a person releases it.
_TONES: Final = {
    WebhookState.PENDING: "info",
    WebhookState.DELIVERING: "info",
    WebhookState.HELD: "warn",
    WebhookState.DELIVERED: "good",
    WebhookState.FAILED: "bad",
    WebhookState.DROPPED: "bad",
}
_LABELS: Final = {WebhookState.NO_URL: "no URL"}
# Documented: only this status counts as accepted.
_OK: Final = 200


@frozen
class StateFilter:
    """A link to the webhooks in one state."""

    label: str
    path: str
    is_current: bool


@frozen
class WebhookRow:
    """One row of the list."""

    id: str
    path: str
    tone: str
    label: str
    kind: str
    content: str
    session_id: str
    response: str
    attempts: int
    created: Moment
    due: Moment | None
    note: str


@frozen
class AttemptRow:
    """One attempt to deliver a webhook."""

    number: int
    tone: str
    response: str
    sent: Moment
    milliseconds: str
    headers: tuple[tuple[str, str], ...]
    body: Body | None
    is_cut: bool


def describe_webhooks(page: WebhookPage, *, state: str, session: str, after: str, now: datetime) -> dict[str, object]:
    """Return the values of the list."""
    query = {"state": state, "session": session}
    return {
        "session": session,
        "filters": tuple(_filters(state, session)),
        "rows": tuple(describe_webhook(webhook, now) for webhook in page.webhooks),
        "total": page.total,
        "has_filter": bool(state or session or after),
        "first": link(WEBHOOKS_PATH, **query) if after else "",
        "next": link(WEBHOOKS_PATH, **query, after=page.next) if page.next else "",
        "here": link(WEBHOOKS_PATH, **query, after=after),
    }


def _filters(state: str, session: str) -> Iterator[StateFilter]:
    yield StateFilter("All", link(WEBHOOKS_PATH, session=session), not state)
    for each in WebhookState:
        yield StateFilter(_label(each), link(WEBHOOKS_PATH, state=each, session=session), each == state)


def describe_webhook(webhook: WebhookView, now: datetime) -> WebhookRow:
    """Return the row of a webhook."""
    return WebhookRow(
        id=webhook.id,
        path=webhook_path(webhook.id),
        tone=_TONES.get(webhook.state, ""),
        label=_label(webhook.state),
        kind=webhook.kind,
        content=_content(webhook.body),
        session_id=webhook.session_id,
        response=_response(webhook.attempts[-1]) if webhook.attempts else "",
        attempts=webhook.attempt_count,
        created=describe_time(webhook.created_at, now),
        due=None if webhook.due_at is None or webhook.due_at <= now else describe_time(webhook.due_at, now),
        note=webhook.cause or ("copy" if webhook.copy_of else ""),
    )


def describe_webhook_page(webhook: WebhookView, now: datetime) -> dict[str, object]:
    """Return the values of the page of a webhook."""
    # The record keeps the last attempts only, so the first of them may have a higher number.
    first = webhook.attempt_count - len(webhook.attempts) + 1
    attempts = [_attempt(number, attempt, now) for number, attempt in enumerate(webhook.attempts, start=first)]
    return {
        "webhook": describe_webhook(webhook, now),
        "url": webhook.url,
        "copy_of": webhook.copy_of,
        "behind": webhook.after,
        "can_wait": webhook.state in {WebhookState.PENDING, WebhookState.HELD},
        "can_deliver": webhook.state not in {WebhookState.DELIVERED, WebhookState.DELIVERING},
        "can_drop": webhook.state not in FINISHED,
        "headers": tuple(webhook.headers.items()),
        "body": describe_body(webhook.body),
        "attempts": tuple(reversed(attempts)),
        "hidden": webhook.attempt_count - len(webhook.attempts),
        "here": webhook_path(webhook.id),
    }


def describe_order(page: WebhookPage, now: datetime) -> dict[str, object]:
    """Return the values of the page on which waiting webhooks are ordered, oldest first."""
    return {"rows": tuple(describe_webhook(webhook, now) for webhook in reversed(page.webhooks)), "total": page.total}


def _label(state: WebhookState) -> str:
    return _LABELS.get(state, state)


def _content(body: bytes) -> str:
    """Return the action or the status that a body reports, because a session has several webhooks of a kind."""
    try:
        message = as_object(json.loads(body)) or EMPTY
    # A restored state may have any bytes.
    except ValueError:
        return ""
    verification = as_object(message.get("verification")) or message
    found = message.get("action") or verification.get("status")
    return label(found) if isinstance(found, str) else ""


def _response(attempt: Delivery) -> str:
    return attempt.error or "no response" if attempt.status is None else str(attempt.status)


def _attempt(number: int, attempt: Delivery, now: datetime) -> AttemptRow:
    return AttemptRow(
        number=number,
        tone="good" if attempt.status == _OK else "bad",
        response=_response(attempt),
        sent=describe_time(attempt.sent_at, now),
        milliseconds=f"{attempt.duration * 1000:.0f} ms",
        headers=tuple(attempt.response_headers.items()),
        body=describe_body(attempt.response_body) if attempt.response_body else None,
        is_cut=attempt.is_cut,
    )


# Webhooks that a person may bring into an order on one page.
_MAX_ORDERED: Final = 100


class WebhookHandlers:
    """The handlers of webhooks."""

    def __init__(self, frame: Frame) -> None:
        """Show and change the webhooks of a service."""
        self._frame = frame
        self._service = frame.service
        self._webhooks = frame.service.webhooks

    def add_routes(self, routes: web.UrlDispatcher) -> None:
        """Add the routes."""
        routes.add_get(WEBHOOKS_PATH, self._show_list)
        self._frame.add_form(routes, f"{WEBHOOKS_PATH}/{{action:hold|release}}", self._hold)
        routes.add_get(ORDER_PATH, self._show_order)
        self._frame.add_form(routes, ORDER_PATH, self._reorder)
        path = webhook_path("{id}")
        routes.add_get(path, self._show)
        self._frame.add_form(routes, path + "/delay", self._delay)
        self._frame.add_form(routes, path + "/{action:deliver|drop|duplicate}", self._act)

    async def _show_list(self, request: web.Request) -> web.Response:
        query = {name: request.query.get(name, "") for name in ("state", "session", "after")}
        problem = ""
        try:
            page = self._webhooks.find(
                session_id=query["session"] or None, state=query["state"] or None, after=query["after"] or None
            )
        except InvalidArgumentError:
            # An address from before a reset, or a changed one.
            query = dict.fromkeys(query, "")
            page, problem = self._webhooks.find(), "The address names no webhooks, so the page shows all."
        values = describe_webhooks(page, **query, now=self._service.clock.now())
        return await self._frame.respond(request, "webhooks", values, page=WEBHOOKS_PATH, problem=problem)

    async def _hold(self, request: web.Request, _: Form) -> web.Response:
        action = request.match_info["action"]
        if action == "hold":
            self._webhooks.hold()
        else:
            self._webhooks.release()
        return finish(WEBHOOKS_PATH, action)

    async def _show_order(self, request: web.Request) -> web.Response:
        return await self._render_order(request)

    async def _render_order(self, request: web.Request, *, form: Form | None = None, problem: str = "") -> web.Response:
        page = self._webhooks.find(state=WebhookState.HELD, limit=_MAX_ORDERED)
        values = describe_order(page, self._service.clock.now())
        return await self._frame.respond(request, "order", values, page=WEBHOOKS_PATH, form=form, problem=problem)

    async def _reorder(self, request: web.Request, form: Form) -> web.Response:
        ids = read_order(form, highest=_MAX_ORDERED)
        if form.problems:
            return await self._render_order(request, form=form)
        try:
            self._webhooks.reorder(ids)
            for webhook_id in ids:
                # A delay ends the hold, and keeps the place in the order.
                self._webhooks.delay(webhook_id, 0)
        except InvalidArgumentError as error:
            return await self._render_order(request, form=form, problem=str(error))
        return finish(WEBHOOKS_PATH, "reorder")

    async def _show(self, request: web.Request) -> web.Response:
        return await self._render(request)

    async def _render(self, request: web.Request, *, form: Form | None = None, problem: str = "") -> web.Response:
        try:
            webhook = self._webhooks.get(request.match_info["id"])
        except InvalidArgumentError:
            return await self._frame.respond_unknown(request)
        values = describe_webhook_page(webhook, self._service.clock.now())
        return await self._frame.respond(request, "webhook", values, page=WEBHOOKS_PATH, form=form, problem=problem)

    async def _delay(self, request: web.Request, form: Form) -> web.Response:
        seconds = form.number("seconds", "The delay", lowest=0, highest=LONGEST, required=True)
        if form.problems or seconds is None:
            return await self._render(request, form=form)
        try:
            self._webhooks.delay(request.match_info["id"], seconds)
        except InvalidArgumentError as error:
            return await self._render(request, form=form, problem=str(error))
        return finish(webhook_path(request.match_info["id"]), "delay")

    async def _act(self, request: web.Request, _: Form) -> web.Response:
        webhook_id, action = request.match_info["id"], request.match_info["action"]
        try:
            if action == "deliver":
                self._webhooks.deliver(webhook_id)
            elif action == "drop":
                self._webhooks.drop(webhook_id)
            else:
                webhook_id, action = self._webhooks.duplicate(webhook_id), "resent"
        except InvalidArgumentError as error:
            return await self._render(request, problem=str(error))
        return finish(webhook_path(webhook_id), action)
