"""Operations on webhooks."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  the schema of the response is made of it
from typing import TYPE_CHECKING, Final

from anyio import move_on_after
from attrs import frozen

from veriff_async.sandbox._control.fields import (
    AFTER,
    KIND,
    SECONDS,
    SESSION_ID,
    TIMEOUT,
    Field,
    ListOf,
    MapOf,
    Text,
    Word,
    limit_field,
)
from veriff_async.sandbox._control.operation import Operation
from veriff_async.sandbox._records import Delivery, WebhookKind
from veriff_async.sandbox._webhook_records import WebhookState, WebhookView

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.sandbox._control.operation import Arguments, Context

__all__ = ("WEBHOOK_OPERATIONS",)

_WEBHOOK: Final = "/webhooks/{webhook_id}"
_URLS: Final = {"urls": dict[str, str]}


@frozen(kw_only=True)
class WebhookSummary:
    """A webhook in a list: without bodies, because a page of a thousand webhooks would have many megabytes of them."""

    id: str
    session_id: str
    kind: WebhookKind
    state: WebhookState
    created_at: datetime
    due_at: datetime | None
    url: str | None
    attempt_count: int
    last_status: int | None
    last_error: str
    cause: str
    copy_of: str | None
    after: str | None


def _summarize(webhook: WebhookView) -> WebhookSummary:
    last = webhook.attempts[-1] if webhook.attempts else None
    return WebhookSummary(
        id=webhook.id,
        session_id=webhook.session_id,
        kind=webhook.kind,
        state=webhook.state,
        created_at=webhook.created_at,
        due_at=webhook.due_at,
        url=webhook.url,
        attempt_count=webhook.attempt_count,
        last_status=None if last is None else last.status,
        last_error="" if last is None else last.error,
        cause=webhook.cause,
        copy_of=webhook.copy_of,
        after=webhook.after,
    )


def _find(context: Context, values: Arguments) -> object:
    page = context.service.webhooks.find(**values)
    return {"webhooks": tuple(map(_summarize, page.webhooks)), "next": page.next, "total": page.total}


def _get(context: Context, values: Arguments) -> WebhookView:
    return context.service.webhooks.get(values["webhook_id"])


def _then_show(change: Callable[[Context, Arguments], None]) -> Callable[[Context, Arguments], WebhookView]:
    """Return the function that changes a webhook, and returns its new state."""

    def call(context: Context, values: Arguments) -> WebhookView:
        change(context, values)
        return _get(context, values)

    return call


def _reorder(context: Context, values: Arguments) -> object:
    context.service.webhooks.reorder(values["webhook_ids"])
    return {}


def _urls(context: Context, _: Arguments) -> object:
    return {"urls": context.service.webhook_urls}


def _set_urls(context: Context, values: Arguments) -> object:
    context.service.change_rules(webhook_urls=values["urls"])
    return _urls(context, values)


async def _wait_idle(context: Context, values: Arguments) -> object:
    is_idle = False
    with move_on_after(values.get("timeout", 10)):
        await context.wait_idle()
        is_idle = True
    return {"is_idle": is_idle}


WEBHOOK_OPERATIONS: Final = (
    Operation(
        "find_webhooks",
        "GET",
        "/webhooks",
        "List webhooks with their states, newest first, without their bodies.",
        _find,
        {"webhooks": tuple[WebhookSummary, ...], "next": str | None, "total": int},
        query=(
            SESSION_ID,
            KIND,
            Field("state", Word(tuple(WebhookState)), "Only webhooks in this state."),
            AFTER,
            limit_field(default=50, highest=1000),
        ),
        python=("webhooks",),
    ),
    Operation("get_webhook", "GET", _WEBHOOK, "Show a webhook with its attempts.", _get, WebhookView, python=()),
    Operation(
        "hold_webhooks",
        "POST",
        "/webhooks/hold",
        "Hold webhooks, and those that come later, until they are released.",
        lambda context, values: {"count": context.service.webhooks.hold(**values)},
        {"count": int},
        body=(SESSION_ID, KIND),
    ),
    Operation(
        "release_webhooks",
        "POST",
        "/webhooks/release",
        "Let held webhooks go, and those that come later.",
        lambda context, values: {"count": context.service.webhooks.release(**values)},
        {"count": int},
        body=(SESSION_ID, KIND),
    ),
    Operation(
        "reorder_webhooks",
        "POST",
        "/webhooks/reorder",
        "Post waiting webhooks one after another, in this order.",
        _reorder,
        {},
        body=(Field("webhook_ids", ListOf(Text(max_length=200)), "Ids of webhooks.", is_required=True),),
        is_change=True,
    ),
    Operation(
        "deliver_webhook",
        "POST",
        _WEBHOOK + "/deliver",
        "Post a webhook now, to the present URL of its kind.",
        _then_show(lambda context, values: context.service.webhooks.deliver(values["webhook_id"])),
        WebhookView,
        is_change=True,
    ),
    Operation(
        "delay_webhook",
        "POST",
        _WEBHOOK + "/delay",
        "Post a waiting webhook some seconds from now, instead of at its time.",
        _then_show(lambda context, values: context.service.webhooks.delay(values["webhook_id"], values["seconds"])),
        WebhookView,
        body=(SECONDS,),
        is_change=True,
    ),
    Operation(
        "duplicate_webhook",
        "POST",
        _WEBHOOK + "/duplicate",
        "Post the same bytes once more, as another webhook.",
        lambda context, values: {"webhook_id": context.service.webhooks.duplicate(values["webhook_id"])},
        {"webhook_id": str},
        is_change=True,
    ),
    Operation(
        "drop_webhook",
        "POST",
        _WEBHOOK + "/drop",
        "Make no further attempt to deliver a webhook.",
        _then_show(lambda context, values: context.service.webhooks.drop(values["webhook_id"])),
        WebhookView,
        is_change=True,
    ),
    Operation(
        "get_deliveries",
        "GET",
        "/deliveries",
        "List the last attempts to deliver webhooks, oldest first.",
        lambda context, values: {"deliveries": context.service.deliveries[-values.get("limit", 100) :]},
        {"deliveries": tuple[Delivery, ...]},
        query=(limit_field(default=100, highest=1000),),
        python=("deliveries",),
    ),
    Operation(
        "get_webhook_urls",
        "GET",
        "/webhook-urls",
        "Show the URL of each kind of webhook.",
        _urls,
        _URLS,
        python=("webhook_urls", "webhook_url"),
    ),
    Operation(
        "set_webhook_urls",
        "PUT",
        "/webhook-urls",
        "Set the URLs of webhooks; kinds without a URL are not posted.",
        _set_urls,
        _URLS,
        body=(
            Field(
                "urls",
                MapOf(Word(tuple(WebhookKind)), Text(max_length=2000)),
                "URLs by kinds of webhooks.",
                is_required=True,
            ),
        ),
        python=("webhook_urls", "webhook_url"),
    ),
    Operation(
        "wait_idle",
        "POST",
        "/wait-idle",
        "Wait until no webhook is due or being posted; `is_idle` is false if time ran out.",
        _wait_idle,
        {"is_idle": bool},
        body=(TIMEOUT,),
        python=("wait_idle", "wait_idle_sync"),
    ),
)
