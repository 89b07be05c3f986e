"""The list of sessions and the page of one session: their values and their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web
from attrs import frozen

from veriff_async._protocol.json.encode import to_json
from veriff_async._protocol.status_transitions import OPEN_FOR_MEDIA, can_follow
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.enums import Status
from veriff_async.models.json import EMPTY, as_object
from veriff_async.sandbox._changes import SessionChanges
from veriff_async.sandbox._console.display import (
    Moment,
    describe_body,
    describe_size,
    describe_time,
    full_name,
    label,
    tone,
)
from veriff_async.sandbox._console.forms import read_decision
from veriff_async.sandbox._console.frame import finish
from veriff_async.sandbox._console.links import SESSIONS_PATH, link, media_path, session_path
from veriff_async.sandbox._console.timeline import describe_entries
from veriff_async.sandbox._console.webhooks import describe_webhook
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._hosted.steps import reasons
from veriff_async.sandbox._web import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._console.display import Body
    from veriff_async.sandbox._console.forms import Form
    from veriff_async.sandbox._console.frame import Frame
    from veriff_async.sandbox._records import AttemptView, SessionPage, SessionView, StoredMedia

__all__ = (
    "PICTURE_TYPES",
    "SessionHandlers",
    "describe_session",
    "describe_sessions",
)

# HEIC and HEIF, which Veriff accepts as well, are shown by Safari only: https://caniuse.com/heif.
PICTURE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/webp"})
"""Types of files that every browser shows as a picture."""

# Decisions without a reason come first; the page shows the others with a list of codes.
_CHOICES: Final = (
    (Status.APPROVED, "Approve", "good"),
    (Status.REVIEW, "Send to review", ""),
    (Status.EXPIRED, "Expire", ""),
    (Status.ABANDONED, "Abandon", ""),
    (Status.DECLINED, "Decline", "bad"),
    (Status.RESUBMISSION_REQUESTED, "Resubmit", "warn"),
)
_MOMENTS: Final = ("created", "started", "submitted", "decided")


@frozen
class SessionRow:
    """One row of the list."""

    id: str
    tone: str
    label: str
    name: str
    vendor_data: str
    attempts: int
    pictures: int
    created: Moment
    deleted: bool


@frozen
class Filter:
    """A link to the sessions of one status."""

    label: str
    count: str
    path: str
    is_current: bool


@frozen
class Fact:
    """A name and its value."""

    name: str
    text: str
    is_code: bool = False


@frozen
class Choice:
    """A decision that the page offers."""

    status: Status
    label: str
    tone: str
    reasons: tuple[tuple[int, str], ...]


@frozen
class Step:
    """An action of the end-user that the page offers."""

    action: str
    label: str


@frozen
class Picture:
    """A file of an attempt."""

    path: str
    context: str
    kind: str
    size: str
    is_picture: bool


@frozen
class Attempt:
    """An attempt of the end-user."""

    id: str
    number: int
    tone: str
    label: str
    moments: tuple[tuple[str, Moment], ...]
    media: tuple[Picture, ...]


@frozen
class Part:
    """JSON with a title."""

    title: str
    body: Body


def describe_sessions(  # noqa: PLR0913  the query of the page
    page: SessionPage,
    counts: Mapping[Status, int],
    *,
    status: str,
    search: str,
    after: str,
    now: datetime,
) -> dict[str, object]:
    """Return the values of the list."""
    return {
        "status": status,
        "search": search,
        "filters": tuple(_filters(counts, status, search)),
        "rows": tuple(_row(session, now) for session in page.sessions),
        "total": page.total,
        "first": link(SESSIONS_PATH, status=status, search=search) if after else "",
        "next": link(SESSIONS_PATH, status=status, search=search, after=page.next) if page.next else "",
        "has_filter": bool(status or search or after),
        "here": link(SESSIONS_PATH, status=status, search=search, after=after),
    }


def _filters(counts: Mapping[Status, int], status: str, search: str) -> Iterator[Filter]:
    yield Filter("All", f"{sum(counts.values()):,}", link(SESSIONS_PATH, search=search), not status)
    for each, count in counts.items():
        # Statuses that no session has would only make the list long.
        if count or each == status:
            yield Filter(label(each), f"{count:,}", link(SESSIONS_PATH, status=each, search=search), each == status)


def _row(session: SessionView, now: datetime) -> SessionRow:
    return SessionRow(
        id=session.id,
        tone=tone(session.status),
        label=label(session.status),
        name=full_name(session.person),
        vendor_data=session.vendor_data or "",
        attempts=len(session.attempts),
        pictures=len(session.media),
        created=describe_time(session.created_at, now),
        deleted=session.deleted,
    )


def describe_session(session: SessionView, *, now: datetime) -> dict[str, object]:
    """Return the values of the page of a session."""
    attempts = [_attempt(number, attempt, now) for number, attempt in enumerate(session.attempts, start=1)]
    return {
        "id": session.id,
        "name": full_name(session.person),
        "tone": tone(session.status),
        "label": label(session.status),
        "deleted": session.deleted,
        "is_final": session.status.is_final,
        "created": describe_time(session.created_at, now),
        # The API has no deleted sessions, so nothing can be done with one; the page still shows what it was.
        "choices": () if session.deleted else tuple(_choices(session)),
        "steps": () if session.deleted else tuple(_steps(session)),
        "facts": tuple(_facts(session)),
        "decision": _decision(session.decision),
        # The newest attempt first: it is the one that a decision is about.
        "attempts": tuple(reversed(attempts)),
        "parts": tuple(_parts(session)),
    }


def _choices(session: SessionView) -> Iterator[Choice]:
    for status, words, colour in _CHOICES:
        # Documented: an end-user who never started lets a session expire; afterwards it is abandoned.
        fits = status != (Status.ABANDONED if session.status == Status.CREATED else Status.EXPIRED)
        if fits and can_follow(session.status, status):
            yield Choice(status, words, colour, reasons(status))


def _steps(session: SessionView) -> Iterator[Step]:
    if session.status in OPEN_FOR_MEDIA:
        if session.attempts[-1].status == Status.CREATED:
            yield Step("start", "Start attempt")
        yield Step("submit", "Submit attempt")
    elif not session.status.is_final:
        yield Step("open", "Open another attempt")


def _facts(session: SessionView) -> Iterator[Fact]:
    values = (
        ("Vendor data", session.vendor_data, True),
        ("End-user id", session.end_user_id, True),
        ("Callback", session.callback, True),
        ("First name", session.person.get("firstName"), False),
        ("Last name", session.person.get("lastName"), False),
        ("Date of birth", session.person.get("dateOfBirth"), False),
        ("Document", session.document.get("type"), False),
        ("Number", session.document.get("number"), True),
        ("Country", session.document.get("country"), False),
    )
    for name, value, is_code in values:
        if isinstance(value, str) and value:
            yield Fact(name, value, is_code)


def _decision(decision: JsonObject | None) -> dict[str, object] | None:
    if decision is None:
        return None
    content = as_object(decision.get("verification")) or decision
    names = {"status": "Status", "code": "Code", "reasonCode": "Reason code", "reason": "Reason"}
    times = {"decisionTime": "Decided", "riskScore": "Risk score"}
    facts = [Fact(name, _write(content.get(key))) for key, name in {**names, **times}.items() if content.get(key)]
    return {"facts": facts, "body": describe_body(decision)}


def _write(value: object) -> str:
    score = as_object(value)
    return str(value if score is None else score.get("score"))


def _attempt(number: int, attempt: AttemptView, now: datetime) -> Attempt:
    moments = ((word, getattr(attempt, f"{word}_at")) for word in _MOMENTS)
    return Attempt(
        id=attempt.id,
        number=number,
        tone=tone(attempt.status),
        label=label(attempt.status),
        moments=tuple((word, describe_time(when, now)) for word, when in moments if when is not None),
        media=tuple(map(_picture, attempt.media)),
    )


def _picture(media: StoredMedia) -> Picture:
    return Picture(
        path=media_path(media.id),
        context=media.context,
        kind=media.mimetype.partition("/")[2] or media.mimetype,
        size=describe_size(media.size),
        is_picture=media.mimetype in PICTURE_TYPES,
    )


def _parts(session: SessionView) -> Iterator[Part]:
    given = {"person": session.person, "document": session.document}
    if any(given.values()):
        yield Part("Person and document as given at creation", describe_body(given))
    if session.collected_data is not None:
        yield Part("Data of the device", describe_body(session.collected_data or EMPTY))
    if session.screening is not None:
        yield Part("Watchlist screening", describe_body(to_json(session.screening)))
    if session.pep_matches:
        yield Part("Matches in lists of persons", describe_body({"matches": list(map(to_json, session.pep_matches))}))
    for result in session.registries:
        yield Part(
            f"Result of a registry: {type(result).__name__.removesuffix('Result')}", describe_body(to_json(result))
        )
    statuses = [(number, each) for number, attempt in enumerate(session.attempts, 1) for each in attempt.user_statuses]
    for number, status in statuses:
        yield Part(f"Status given by a user to attempt {number}", describe_body(to_json(status)))


# The page of a session links to longer lists.
_MAX_WEBHOOKS: Final = 20
_MAX_ENTRIES: Final = 60
# Pictures may show people, so no browser keeps them. A file that a client has sent may contain scripts: "sandbox" lets
# none run, even if the file is opened as a page (https://www.w3.org/TR/CSP3/#directive-sandbox).
_MEDIA_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


class SessionHandlers:
    """The handlers of sessions."""

    def __init__(self, frame: Frame) -> None:
        """Show and change the sessions of a service."""
        self._frame = frame
        self._service = frame.service
        self._changes = SessionChanges(frame.service)
        # Forms of the end-user's steps: what they do, and the sentence of the result.
        self._steps: Mapping[str, tuple[Callable[[str], object], str]] = {
            "start": (self._changes.start_attempt, "started"),
            "submit": (self._changes.submit_attempt, "submitted"),
            "open": (self._service.open_attempt, "opened"),
        }

    def add_routes(self, routes: web.UrlDispatcher) -> None:
        """Add the routes."""
        routes.add_get(SESSIONS_PATH, self._show_list)
        path = session_path("{id}")
        routes.add_get(path, self._show)
        self._frame.add_form(routes, path + "/decide", self._decide)
        self._frame.add_form(routes, f"{path}/{{step:{'|'.join(self._steps)}}}", self._take_step)
        routes.add_get(media_path("{id}"), self._show_media)

    async def _show_list(self, request: web.Request) -> web.Response:
        query = {name: request.query.get(name, "") for name in ("status", "search", "after")}
        problem = ""
        try:
            page = self._service.find_sessions(
                status=query["status"] or None, search=query["search"], after=query["after"] or None
            )
        except InvalidArgumentError:
            # An address from before a reset, or a changed one: the first page shows what there is.
            query = dict.fromkeys(query, "")
            page, problem = self._service.find_sessions(), "The address names no sessions, so the page shows all."
        values = describe_sessions(
            page,
            self._service.count_sessions(),
            status=query["status"],
            search=query["search"],
            after=query["after"],
            now=self._service.clock.now(),
        )
        values["command"] = _creation_command(request, self._service.credentials.api_key)
        return await self._frame.respond(request, "sessions", values, page=SESSIONS_PATH, problem=problem)

    async def _show(self, request: web.Request) -> web.Response:
        return await self._render(request)

    async def _render(self, request: web.Request, *, form: Form | None = None, problem: str = "") -> web.Response:
        session_id = request.match_info["id"]
        try:
            session = self._service.session(session_id)
            webhooks = self._service.webhooks.find(session_id=session_id, limit=_MAX_WEBHOOKS)
        except InvalidArgumentError:
            return await self._frame.respond_unknown(request)
        now = self._service.clock.now()
        entries = self._service.timeline.entries(session_id=session_id, limit=_MAX_ENTRIES)
        values = describe_session(session, now=now)
        values["hosted"] = self._hosted_path(session_id)
        values["here"] = session_path(session_id)
        values["webhooks"] = tuple(describe_webhook(webhook, now) for webhook in webhooks.webhooks)
        values["entries"] = describe_entries(entries, now)
        return await self._frame.respond(request, "session", values, page=SESSIONS_PATH, form=form, problem=problem)

    def _hosted_path(self, session_id: str) -> str:
        try:
            token: str = self._service.read_session(session_id, lambda session: session.token)
        except HTTPError:
            return ""
        return f"/v/{token}"

    async def _decide(self, request: web.Request, form: Form) -> web.Response:
        status, fields = read_decision(form)
        if form.problems:
            return await self._render(request, form=form)
        try:
            self._changes.decide(request.match_info["id"], status, fields)
        except InvalidArgumentError as error:
            return await self._render(request, form=form, problem=str(error))
        return finish(session_path(request.match_info["id"]), "decided")

    async def _take_step(self, request: web.Request, _: Form) -> web.Response:
        session_id = request.match_info["id"]
        change, word = self._steps[request.match_info["step"]]
        try:
            change(session_id)
        except InvalidArgumentError as error:
            return await self._render(request, problem=str(error))
        return finish(session_path(session_id), word)

    async def _show_media(self, request: web.Request) -> web.StreamResponse:
        try:
            stored = self._service.read(lambda scenario: scenario.sessions.find_media(request.match_info["id"]))
        except HTTPError:
            return refuse(404, "The sandbox has no such file, or its session was deleted.")
        # A file is what a client has sent, so only a few types may be shown, and no script in it may run.
        is_picture = stored.mimetype in PICTURE_TYPES
        headers = {
            **_MEDIA_HEADERS,
            "Content-Type": stored.mimetype if is_picture else "application/octet-stream",
            "Content-Disposition": "inline" if is_picture else "attachment",
        }
        return web.FileResponse(stored.path, headers=headers)


def _creation_command(request: web.Request, api_key: str) -> str:
    # The sandbox accepts a creation without a signature, so that the command needs no tool for HMAC.
    body = '{"verification": {"person": {"firstName": "Ada"}}}'
    return (
        f"curl {request.url.origin()}/v1/sessions -H 'X-AUTH-CLIENT: {api_key}'"
        f" -H 'Content-Type: application/json' -d '{body}'"
    )
