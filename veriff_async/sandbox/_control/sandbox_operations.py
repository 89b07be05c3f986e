"""Operations on the sandbox itself: addresses, credentials, clock, faults, chaos and records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from veriff_async.credentials import Credentials
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox._address import build_environ
from veriff_async.sandbox._arguments import LONGEST
from veriff_async.sandbox._chaos.profile import ChaosProfile
from veriff_async.sandbox._chaos.reader import KINDS, read_fault
from veriff_async.sandbox._control.access import API_PREFIX
from veriff_async.sandbox._control.errors import ControlError
from veriff_async.sandbox._control.fields import (
    SECONDS,
    SESSION_ID,
    Field,
    Flag,
    Json,
    Kind,
    ListOf,
    MapOf,
    Members,
    Number,
    Text,
    Word,
    limit_field,
)
from veriff_async.sandbox._control.operation import EVENTS, Operation
from veriff_async.sandbox._control.stream import EventStream
from veriff_async.sandbox._face_import import ImportedFace
from veriff_async.sandbox._faults import WaitingFault
from veriff_async.sandbox._records import ReceivedRequest
from veriff_async.sandbox._timeline_entries import TimelineKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.sandbox._control.operation import Arguments, Context

__all__ = ("SANDBOX_OPERATIONS",)

_T = TypeVar("_T")

_CREDENTIALS: Final = {"api_key": str, "secrets": tuple[str, ...], "integration_id": str | None}
_CLOCK: Final = {"now": str, "is_virtual": bool}
_CHAOS: Final = {"profile": ChaosProfile | None, "shipped": tuple[str, ...]}
_ADDRESSES: Final = {
    "base_url": str,
    "feedback_url": str,
    "sync_url": str,
    "public_url": str | None,
    "control_url": str,
    "control_token": str | None,
    "console_url": str,
}

_TEXT: Final = Text(max_length=1000)
_NUMBER: Final = Number(lowest=0, highest=LONGEST, whole=True)
_FAULT_KINDS: Final[dict[str, Kind]] = {
    "status": Number(lowest=200, highest=599, whole=True),
    "code": _TEXT,
    "message": _TEXT,
    "before_body": Flag(),
    "headers": MapOf(_TEXT, _TEXT),
    "retry_after": Number(lowest=0, highest=LONGEST),
    "after": _NUMBER,
    "offset": _NUMBER,
}
_FAULT_TEXTS: Final = {
    "status": "HTTP status; for the kind `status`.",
    "code": "Veriff's code in the body; for the kind `status`.",
    "message": "Veriff's message in the body; for the kind `status`.",
    "before_body": "Whether to respond before the body was read; for the kind `status`.",
    "headers": "Headers; for the kind `status`.",
    "retry_after": "Seconds of the header Retry-After; for the kind `status`.",
    "after": "Bytes after which it happens; for the kinds `drop`, `hang`, `truncate_response` and `stall_response`.",
    "offset": "The byte that is changed; for the kind `corrupt_response`.",
}
_FAULT: Final = Members(
    fields=(
        Field("kind", Word(tuple(KINDS)), "How requests fail.", is_required=True),
        *(Field(name, kind, _FAULT_TEXTS[name]) for name, kind in _FAULT_KINDS.items()),
    ),
    title="Fault",
)


def _checked(build: Callable[[], _T], field: str | None = None) -> _T:
    """Return a value whose constructor raises the errors of options."""
    try:
        return build()
    except ConfigurationError as error:
        problem = str(error)
    raise ControlError(422, problem, field=field)


def _host(context: Context) -> str:
    return context.service.public_url or context.service.host


def _describe(context: Context, _: Arguments) -> object:
    environ = build_environ(_host(context), context.service.credentials)
    return {
        "base_url": environ["VERIFF_BASE_URL"],
        "feedback_url": environ["VERIFF_FEEDBACK_URL"],
        "sync_url": environ["VERIFF_SYNC_URL"],
        "public_url": context.service.public_url,
        "control_url": environ["VERIFF_BASE_URL"] + API_PREFIX,
        "control_token": context.access.token,
        "console_url": context.access.console_url(environ["VERIFF_BASE_URL"]),
    }


def _set_public_url(context: Context, values: Arguments) -> object:
    url = values["public_url"]
    _checked(lambda: context.set_public_url(url), "public_url")
    return _describe(context, values)


def _credentials(context: Context, _: Arguments) -> object:
    credentials = context.service.credentials
    return {
        "api_key": credentials.api_key,
        "secrets": credentials.secrets,
        "integration_id": credentials.integration_id,
    }


def _set_credentials(context: Context, values: Arguments) -> object:
    api_key: str = values["api_key"]
    newest, *previous = values["secrets"] or ("",)
    integration_id: str | None = values.get("integration_id")
    context.service.credentials = _checked(
        lambda: Credentials(api_key, newest, previous_secrets=tuple(previous), integration_id=integration_id)
    )
    return _credentials(context, values)


def _clock(context: Context, _: Arguments) -> object:
    clock = context.service.clock
    return {"now": clock.now(), "is_virtual": not clock.runs}


def _advance(context: Context, values: Arguments) -> object:
    context.service.advance(values["seconds"])
    return _clock(context, values)


def _inject(context: Context, values: Arguments) -> object:
    fault = read_fault(values["fault"], "fault")
    fault_id = context.service.inject(
        fault, method=values.get("method"), path=values.get("path"), times=values.get("times", 1)
    )
    return {"fault_id": fault_id}


def _remove_fault(context: Context, values: Arguments) -> object:
    context.service.remove_fault(values["fault_id"])
    return {}


def _clear_faults(context: Context, _: Arguments) -> object:
    context.service.clear_faults()
    return {}


def _chaos(context: Context, _: Arguments) -> object:
    return {"profile": context.service.chaos, "shipped": ChaosProfile.shipped()}


def _set_chaos(context: Context, values: Arguments) -> object:
    if ("name" in values) == ("profile" in values):
        raise ControlError(422, "The input must have a name or a profile: send one of them.")
    # A name is one of a few words here, so no request can open a file of this machine.
    context.service.chaos = (
        ChaosProfile.load(values["name"])
        if "name" in values
        else _checked(lambda: ChaosProfile.from_dict(values["profile"]), "profile")
    )
    return _chaos(context, values)


def _clear_chaos(context: Context, values: Arguments) -> object:
    context.service.chaos = None
    return _chaos(context, values)


def _timeline(context: Context, values: Arguments) -> object:
    timeline = context.service.timeline
    entries = timeline.entries(**values)
    return {"entries": [entry.to_dict() for entry in entries], "last_number": timeline.last_number}


def _events(context: Context, values: Arguments) -> EventStream:
    kind = values.get("kind")
    return EventStream(
        timeline=context.service.timeline,
        after=values.get("after"),
        session_id=values.get("session_id"),
        kind=None if kind is None else TimelineKind(kind),
    )


SANDBOX_OPERATIONS: Final = (
    Operation(
        "get_addresses",
        "GET",
        "/addresses",
        "Show the URLs of the APIs and of the console, and the token of the control API.",
        _describe,
        _ADDRESSES,
        python=("base_url", "feedback_url", "sync_url", "public_url", "control_url", "control_token", "console_url"),
    ),
    Operation(
        "set_public_url",
        "PUT",
        "/public-url",
        "Set the URL that begins the addresses in responses, such as session.url.",
        _set_public_url,
        _ADDRESSES,
        body=(
            Field(
                "public_url",
                Text(max_length=2000),
                "For example https://veriff.example; null for the address that the sandbox listens on.",
                is_required=True,
                is_nullable=True,
            ),
        ),
        python=("public_url",),
    ),
    Operation(
        "get_environ",
        "GET",
        "/environ",
        "Show the environment variables that clients of this library read.",
        lambda context, _: {"environ": build_environ(_host(context), context.service.credentials)},
        {"environ": dict[str, str]},
        python=("environ",),
    ),
    Operation(
        "get_credentials",
        "GET",
        "/credentials",
        "Show the credentials that clients must use.",
        _credentials,
        _CREDENTIALS,
        python=("credentials",),
    ),
    Operation(
        "set_credentials",
        "PUT",
        "/credentials",
        "Set the credentials that clients must use, to rotate secrets for example.",
        _set_credentials,
        _CREDENTIALS,
        body=(
            Field("api_key", Text(max_length=200), "The API key.", is_required=True),
            Field(
                "secrets",
                ListOf(Text(max_length=1000), max_items=5),
                "The live secrets, newest first.",
                is_required=True,
            ),
            Field("integration_id", Text(max_length=200), "The id of the integration.", is_nullable=True),
        ),
        python=("credentials",),
    ),
    Operation("get_clock", "GET", "/clock", "Show the time of the sandbox.", _clock, _CLOCK, python=()),
    Operation(
        "advance",
        "POST",
        "/clock/advance",
        "Move a virtual clock forward, and run everything that becomes due.",
        _advance,
        _CLOCK,
        body=(SECONDS,),
        is_change=True,
    ),
    Operation(
        "get_faults",
        "GET",
        "/faults",
        "List the injected faults that have not happened yet, in the order of their injection.",
        lambda context, _: {"faults": context.service.faults},
        {"faults": tuple[WaitingFault, ...]},
        python=("faults",),
    ),
    Operation(
        "inject",
        "POST",
        "/faults",
        "Let the next requests fail.",
        _inject,
        {"fault_id": int},
        body=(
            Field("fault", _FAULT, "How they fail.", is_required=True),
            Field("method", Text(max_length=20), "Only requests with this method.", is_nullable=True),
            Field(
                "path",
                _TEXT,
                "Only requests whose path matches, with * for any text: /v1/sessions/*/media.",
                is_nullable=True,
            ),
            Field(
                "times", Number(lowest=1, highest=LONGEST, whole=True), "Number of requests that fail; 1 by default."
            ),
        ),
    ),
    Operation(
        "remove_fault",
        "DELETE",
        "/faults/{fault_id}",
        "Remove an injected fault that has not happened yet.",
        _remove_fault,
        {},
        ids=(Field("fault_id", _NUMBER, "Its id."),),
    ),
    Operation(
        "clear_faults", "DELETE", "/faults", "Remove the injected faults that have not happened yet.", _clear_faults, {}
    ),
    Operation("get_chaos", "GET", "/chaos", "Show the chaos profile.", _chaos, _CHAOS, python=("chaos",)),
    Operation(
        "set_chaos",
        "PUT",
        "/chaos",
        "Set the chaos profile; its outages count from now.",
        _set_chaos,
        _CHAOS,
        body=(
            Field("name", Word(ChaosProfile.shipped()), "A profile that the library includes."),
            Field("profile", Json("The members of a profile, as in its TOML file."), ""),
        ),
        python=("chaos",),
    ),
    Operation("clear_chaos", "DELETE", "/chaos", "Return to normal.", _clear_chaos, _CHAOS, python=("chaos",)),
    Operation(
        "get_imported_faces",
        "GET",
        "/imported-faces",
        "List the imported faces, oldest first.",
        lambda context, _: {"faces": context.service.imported_faces},
        {"faces": tuple[ImportedFace, ...]},
        python=("imported_faces",),
    ),
    Operation(
        "get_requests",
        "GET",
        "/requests",
        "List the last requests, oldest first.",
        lambda context, values: {"requests": context.service.requests[-values.get("limit", 100) :]},
        {"requests": tuple[ReceivedRequest, ...]},
        query=(limit_field(default=100, highest=10000),),
        python=("requests",),
    ),
    Operation(
        "get_timeline",
        "GET",
        "/timeline",
        "List entries of the timeline, oldest first: requests, changes of sessions, webhooks, faults, settings.",
        _timeline,
        {"entries": tuple[dict[str, object], ...], "last_number": int},
        query=(
            Field("after", _NUMBER, "Only entries with a higher number."),
            Field("before", _NUMBER, "Only entries with a lower number."),
            SESSION_ID,
            Field("kind", Word(tuple(TimelineKind)), "Only entries of this kind."),
            limit_field(default=100, highest=1000),
        ),
        python=("timeline",),
    ),
    Operation(
        "stream_events",
        "GET",
        "/events",
        "Send entries of the timeline as server-sent events, as they are added, after the one that "
        "Last-Event-ID or `after` names; needs the extra sandbox.",
        _events,
        EVENTS,
        query=(
            Field("after", _NUMBER, "Number of the last entry that is known; by default the newest."),
            SESSION_ID,
            Field("kind", Word(tuple(TimelineKind)), "Only entries of this kind."),
        ),
        python=("timeline",),
    ),
)
