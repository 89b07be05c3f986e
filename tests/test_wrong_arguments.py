"""Arguments of another type or range are refused with an error of ours, before anything is sent or created."""

from __future__ import annotations

import asyncio
import math
import uuid
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from veriff_async import (
    Browser,
    CollectedData,
    ConfigurationError,
    Credentials,
    Decision,
    DecisionEvent,
    Device,
    FraudReport,
    InvalidArgumentError,
    Media,
    Network,
    PollPolicy,
    RetryPolicy,
    Status,
    Timeouts,
    VeriffClient,
    VeriffError,
    WatchlistEvent,
    check_media,
    dump_json,
    from_json,
    to_json,
)
from veriff_async._protocol.arguments import check_function, check_number, check_path, shown
from veriff_async.batch import Job, MemoryJournal, RateLimits, SqliteJournal, read_manifest, verify_many
from veriff_async.inbox import MemoryInbox, Retention, SqliteInbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

CANARY: Final = "Canary 7f3a"
PICTURE: Final = b"\xff\xd8\xff\xe0" + bytes(64)
CREDENTIALS: Final = Credentials("key", "secret")
SESSION: Final = "f04bdb47-d3be-4b28-b028-a652feb060b5"


class Hostile:
    """An object that can neither be shown nor compared."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError(CANARY)

    def __eq__(self, other: object) -> bool:
        """Fail."""
        raise RuntimeError(CANARY)


async def _async(*_args: object) -> None: ...


def _nested() -> dict[str, object]:
    root: dict[str, object] = {}
    inner = root
    for _ in range(3000):
        inner["a"] = inner = cast("dict[str, object]", {})
    return root


WRONG: Final[tuple[object, ...]] = (
    *(True, -1, 10**5000, 1.5, math.nan, -math.inf, CANARY, "\ud800", "a\0b", b"x", bytearray(b"x")),
    *([1], [None], {1: 2}, {"a": {"b": {}}}, {CANARY}, object(), int, _async, range(3), uuid.UUID(int=0)),
    *(Decimal("NaN"), 1j, _nested(), ..., Hostile(), Hostile, CANARY * 100_000),
)


def refused(call: Callable[[Any], object], value: object) -> str:
    """Return the message with which a value is refused, or nothing if it is taken."""
    try:
        call(value)
    except VeriffError as error:
        return str(error)
    return ""


CALLS: Final[dict[str, Callable[[Any], object]]] = {
    **{
        f"VeriffClient({name})": lambda value, name=name: VeriffClient(  # type: ignore[misc]
            CREDENTIALS, base_url="https://veriff.example", **{name: value}
        )
        for name in (
            *("inbox", "retry", "poll", "timeouts", "max_connections", "max_uploads", "max_downloads"),
            *("http_session", "trust_env", "verify_responses"),
        )
    },
    **{
        f"{kind.__name__}({name})": lambda value, kind=kind, name=name: kind(**{name: value})  # type: ignore[misc]
        for kind, names in {
            RetryPolicy: ("max_attempts", "max_elapsed", "initial_backoff", "max_backoff", "max_retry_after"),
            PollPolicy: ("initial_delay", "interval", "backoff_factor", "max_interval", "max_rate"),
            Timeouts: ("connect", "idle", "min_bytes_per_second", "total"),
            Retention: ("max_age", "max_sessions", "max_events_per_session"),
            RateLimits: ("initial", "minimum", "maximum"),
        }.items()
        for name in names
    },
    "SqliteInbox(watch)": lambda value: SqliteInbox("inbox.db", watch=value),
    "Job(media)": lambda value: Job("job", value),
    "Job(timeout)": lambda value: Job("job", [Media(PICTURE, "face")], timeout=value),
    "Credentials.sign": CREDENTIALS.sign,
    "Credentials.with_signing_secret": CREDENTIALS.with_signing_secret,
    "Credentials.without_secret": CREDENTIALS.without_secret,
    "read_manifest(timeout)": lambda value: read_manifest("jobs.csv", timeout=value),
    "to_json(time_digits)": lambda value: to_json(
        Decision(session_id=SESSION, status=Status.APPROVED), time_digits=value
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_values_raise_our_error_and_are_not_shown(name: str) -> None:
    """Any value of another type or range is an error of ours that is short and shows no text of the value."""
    for value in WRONG:
        message = refused(CALLS[name], value)

        assert CANARY not in message
        assert len(message) < 300
        assert message or value in (True, 1.5, b"x", bytearray(b"x"))


@pytest.mark.parametrize("call", [SqliteInbox, SqliteJournal, read_manifest])
@pytest.mark.parametrize("path", [None, 5, b"x.db", "\ud800", "a\0b", Path, Path("a\0b")], ids=repr)
def test_invalid_path_is_refused(call: Callable[[Any], object], path: object) -> None:
    """A value that cannot be the path of a file is refused when it is passed, not when the file is opened."""
    assert "path" in refused(call, path).lower()


def test_a_path_may_have_bytes_that_are_not_text() -> None:
    """The name of a real file may hold bytes that are not UTF-8, as `os.listdir` returns them."""
    assert check_path("path", Path("a\udcff")) == "a\udcff"


def test_environment_must_be_a_mapping() -> None:
    """`from_env` takes a mapping, and names the mistake otherwise."""
    for call in (Credentials.from_env, VeriffClient.from_env):
        assert "environ must be a mapping" in refused(call, [("VERIFF_API_KEY", "key")])


@pytest.mark.parametrize("value", [10**5000, math.nan, math.inf], ids=["huge", "nan", "inf"])
def test_numbers_that_no_text_can_hold_are_unreadable(value: float) -> None:
    """A number in parsed JSON that is not finite, or too long for a text, is read as unknown or refused by path."""
    assert (
        from_json(Decision, {"verification": {"id": "x", "status": "approved", "vendorData": value}}).vendor_data
        is None
    )


@pytest.mark.parametrize("raw", [{1: 2}, {None: 3}, {"technicalData": {1: {2: 3}}}])
def test_names_that_are_not_texts_are_written_as_json_does(raw: dict[Any, object]) -> None:
    """A model that was read from a mapping with other names than texts can be written again."""
    decision = from_json(Decision, {"verification": {"id": "x", "status": "approved"}} | raw)

    assert dump_json(to_json(decision))


@pytest.mark.parametrize("option", ["progress", "timeout"])
async def test_nothing_is_created_before_the_options_are_checked(
    sandbox: Sandbox, veriff: VeriffClient, option: str
) -> None:
    """An option of `verify` that cannot be meant is refused before a session is created."""
    for value in (math.nan, "x", _async, -1, Hostile()):
        with pytest.raises(InvalidArgumentError, match=option):
            await veriff.verify(media=[Media(PICTURE, "face")], **{option: value})  # type: ignore[arg-type]

    assert sandbox.sessions == ()


async def test_wrong_options_of_a_session_are_refused(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Options of calls about a session are checked before the first request."""
    session = veriff.session(SESSION)
    media = Media(PICTURE, "face")
    calls: list[Callable[[Any], Any]] = [
        lambda value: session.upload(media, progress=value),
        lambda value: session.upload(media, concurrency=value),
        lambda value: session.wait_for_decision(until=value),
        lambda value: session.wait_for_decision(poll=value),
        lambda value: session.download_all("folder", concurrency=value),
        lambda value: session.download_all("folder", if_exists=value),
        lambda value: session.download_all("folder", progress=value),
        lambda value: veriff.download_media(value, "folder/"),
        lambda value: session.download_certificate_document(value, SESSION, "folder/"),
        lambda value: session.download_certificate_document(SESSION, value, "folder/"),
        lambda value: veriff.import_faces(session_ids=[SESSION], extra=value),
        lambda value: veriff.report_fraud(FraudReport(SESSION, cast("Any", value))),
        lambda value: check_media(Media(PICTURE, "face", max_side=value)),
        lambda value: anext(verify_many(veriff, value, journal=MemoryJournal())),
        lambda value: anext(verify_many(veriff, [], journal=MemoryJournal(), rate_limits=value)),
        lambda value: anext(verify_many(veriff, [], journal=MemoryJournal(), max_outage=value)),
        lambda value: anext(verify_many(veriff, [], journal=MemoryJournal(), on_unknown=value)),
    ]
    for call in calls:
        for value in (-1, object(), Hostile(), {1}):
            with pytest.raises(InvalidArgumentError) as caught:
                await call(value)
            assert CANARY not in str(caught.value)

    assert sandbox.requests == ()


@pytest.mark.parametrize("value", [5, _async])
async def test_a_plain_function_where_an_async_one_is_needed(veriff: VeriffClient, value: object) -> None:
    """An async function is refused where its result would count as true; a plain one where it is awaited is named."""
    session = await veriff.create_session()
    with pytest.raises(InvalidArgumentError, match="until must be a"):
        await session.wait_for_decision(until=cast("Any", value))
    with pytest.raises(InvalidArgumentError, match="on_uploaded must be an async function"):
        await session.upload(Media(PICTURE, "face"), on_uploaded=cast("Any", lambda _index, _receipt: None))


@pytest.mark.parametrize("part", ["extra", "device", "network", "browser", "email", "provider_name"])
async def test_collected_data_of_other_types_are_refused(sandbox: Sandbox, veriff: VeriffClient, part: str) -> None:
    """Every part of collected data is of its own type, fields of its parts included."""
    fine: dict[str, Any] = {
        "provider_name": "provider",
        "device": Device(fingerprint="print"),
        "network": Network(address_v4="192.0.2.1"),
    }
    within: dict[str, list[object]] = {
        "device": [Device(fingerprint="print", model=cast("Any", value)) for value in (5, Hostile(), 10**5000)],
        "network": [Network(address_v4="192.0.2.1", asn=cast("Any", value)) for value in (5, "x", Hostile())],
        "browser": [Browser(language=cast("Any", value)) for value in (5, Hostile())],
    }
    for value in (5, object(), [1], Hostile(), *within.get(part, [])):
        with pytest.raises(InvalidArgumentError):
            await veriff.session(SESSION).send_collected_data(CollectedData(**fine | {part: value}))

    assert sandbox.requests == ()


@pytest.mark.parametrize(
    "extra", [{"a": 10**5000}, {"a": _nested()}, _nested(), {"a": -(10**400)}], ids=["huge", "deep", "deeper", "low"]
)
async def test_further_members_that_cannot_be_sent_are_refused(
    sandbox: Sandbox, veriff: VeriffClient, extra: dict[str, object]
) -> None:
    """Numbers that no parser reads, and nesting that none follows, are refused before anything is sent."""
    with pytest.raises(InvalidArgumentError, match="extra cannot be sent"):
        await veriff.create_session(extra=extra)

    assert sandbox.requests == ()


@pytest.mark.parametrize("value", [CANARY, 5, Hostile(), [CANARY]], ids=["text", "number", "hostile", "list"])
def test_a_model_with_fields_of_other_types_is_refused_in_words(value: object) -> None:
    """A model whose field holds another type than its own raises our error when it is written."""
    for model in (DecisionEvent(decision=cast("Any", value)), WatchlistEvent(screening=cast("Any", value))):
        with pytest.raises(InvalidArgumentError) as caught:
            dump_json(model)
        assert CANARY not in str(caught.value)


def test_an_inbox_is_an_object_not_its_class() -> None:
    """The class of an inbox is not taken for an inbox."""
    with pytest.raises(ConfigurationError, match="inbox must be an Inbox"):
        VeriffClient(CREDENTIALS, base_url="https://veriff.example", inbox=cast("Any", MemoryInbox))


def test_numbers_and_short_words_are_shown() -> None:
    """A message shows a number, a flag or a short word, which say most about a mistake."""
    assert [shown(value) for value in (5, math.nan, True, None, "overwrite")] == [
        "5",
        "nan",
        "True",
        "None",
        "'overwrite'",
    ]
    assert [shown(value) for value in (10**5000, CANARY, [CANARY])] == [
        "a very large number",
        "of type str",
        "of type list",
    ]
    assert check_number("n", 5, remedy="give one") == 5
    check_function("f", asyncio.sleep, may_be_async=True)
