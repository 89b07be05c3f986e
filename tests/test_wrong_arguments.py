"""An argument of the wrong type or range raises one of our errors before anything is sent or created."""

from __future__ import annotations

import asyncio
import math
import uuid
from decimal import Decimal
from functools import cache
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
    DecodeError,
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
from veriff_async._protocol.arguments import check_function, check_number, check_path, describe_value
from veriff_async.batch import (
    Job,
    MemoryJournal,
    RateLimits,
    SqliteJournal,
    collect_many,
    dump_record,
    load_record,
    read_manifest,
    verify_many,
)
from veriff_async.inbox import MemoryInbox, Retention, SqliteInbox, dump_event, dump_state
from veriff_async.models.state import SessionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

CANARY: Final = "Canary 7f3a"
PICTURE: Final = b"\xff\xd8\xff\xe0" + bytes(64)
CREDENTIALS: Final = Credentials("key", "secret")
SESSION: Final = "f04bdb47-d3be-4b28-b028-a652feb060b5"


class Hostile:
    """An object that raises when it is shown or compared."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError(CANARY)

    def __eq__(self, other: object) -> bool:
        """Fail."""
        raise RuntimeError(CANARY)


async def _async(*_args: object) -> None: ...


@cache  # its garbage takes a second to collect
def _nested() -> dict[str, object]:
    root: dict[str, object] = {}
    inner = root
    for _ in range(100_000):  # more than the C stack of any version of Python allows
        inner["a"] = inner = cast("dict[str, object]", {})
    return root


WRONG: Final[tuple[object, ...]] = (
    *(True, -1, 10**5000, 1.5, math.nan, -math.inf, CANARY, "\ud800", "a\0b", b"x", bytearray(b"x")),
    *([1], [None], {1: 2}, {"a": {"b": {}}}, {CANARY}, object(), int, _async, range(3), uuid.UUID(int=0)),
    *(Decimal("NaN"), 1j, _nested(), ..., Hostile(), Hostile, CANARY * 100_000),
)


def get_message(call: Callable[[Any], object], value: object) -> str:
    """Return the message with which a value is get_message, or an empty text if it is accepted."""
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
            *("http_session", "trust_env", "ca_bundle", "verify_responses"),
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
    "dump_record": dump_record,
    "load_record": load_record,
    "read_manifest(timeout)": lambda value: read_manifest("jobs.csv", timeout=value),
    "to_json(time_digits)": lambda value: to_json(
        Decision(session_id=SESSION, status=Status.APPROVED), time_digits=value
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_value_raises_our_error_without_showing_it(name: str) -> None:
    """The error for a value of another type or range is short and contains no text of the value."""
    for value in WRONG:
        message = get_message(CALLS[name], value)

        assert CANARY not in message
        assert len(message) < 300
        # With their types, because `python -bb` refuses to compare bytes with anything else.
        assert message or (type(value), value) in [(type(each), each) for each in (True, 1.5, b"x", bytearray(b"x"))]


@pytest.mark.parametrize("call", [SqliteInbox, SqliteJournal, read_manifest])
@pytest.mark.parametrize("path", [None, 5, b"x.db", "\ud800", "a\0b", Path, Path("a\0b")], ids=repr)
def test_invalid_path_is_refused(call: Callable[[Any], object], path: object) -> None:
    """A value that cannot be the path of a file is get_message when it is passed, not when the file is opened."""
    assert "path" in get_message(call, path).lower()


def test_path_may_contain_bytes_that_are_not_utf_8() -> None:
    """`os.listdir` returns such names of real files."""
    assert check_path("path", Path("a\udcff")) == "a\udcff"


def test_environment_must_be_a_mapping() -> None:
    """`from_env` names the mistake if the environment is not a mapping."""
    for call in (Credentials.from_env, VeriffClient.from_env):
        assert "environ must be a mapping" in get_message(call, [("VERIFF_API_KEY", "key")])


@pytest.mark.parametrize("value", [10**5000, math.nan, math.inf], ids=["huge", "nan", "inf"])
def test_number_too_long_or_not_finite_is_decoded_as_none(value: float) -> None:
    """Parsed JSON may contain a number that cannot be converted to text."""
    assert (
        from_json(Decision, {"verification": {"id": "x", "status": "approved", "vendorData": value}}).vendor_data
        is None
    )


@pytest.mark.parametrize("raw", [{1: 2}, {None: 3}, {"technicalData": {1: {2: 3}}}])
def test_keys_that_are_not_strings_are_refused(raw: dict[Any, object]) -> None:
    """JSON has no other keys than strings, so a mapping with others is not the JSON of a model."""
    with pytest.raises(DecodeError, match="not the JSON of a Decision"):
        from_json(Decision, {"verification": {"id": "x", "status": "approved"}} | raw)


@pytest.mark.parametrize("raw", [{"a": object()}, {"a": math.nan}, {"a": {CANARY}}, _nested()])
async def test_raw_that_is_not_json_is_refused_by_every_store(raw: dict[str, object], tmp_path: Path) -> None:
    """A program can put anything into ``raw``; what encodes it raises an error that does not show it."""
    decision = Decision(session_id=SESSION, status=Status.APPROVED, raw=raw)
    event = DecisionEvent(decision=decision, raw=raw)
    state = SessionState(session_id=SESSION, status=Status.APPROVED, decision=decision)
    for call, value in ((dump_event, event), (dump_state, state)):
        message = get_message(call, value)
        assert "is not JSON" in message
        assert CANARY not in message
    async with MemoryInbox() as memory, SqliteInbox(tmp_path / "inbox.db") as sqlite:
        for inbox in (memory, sqlite):
            with pytest.raises(InvalidArgumentError, match="is not JSON"):
                await inbox.record(event)
            assert () == tuple(await inbox.get_events(SESSION))


@pytest.mark.parametrize("option", ["progress", "timeout"])
async def test_verify_checks_its_options_before_it_creates_a_session(
    sandbox: Sandbox, veriff: VeriffClient, option: str
) -> None:
    """An invalid option of `verify` is refused before the first request."""
    for value in (math.nan, "x", _async, -1, Hostile()):
        with pytest.raises(InvalidArgumentError, match=option):
            await veriff.verify(media=[Media(PICTURE, "face")], **{option: value})  # type: ignore[arg-type]

    assert sandbox.sessions == ()


async def test_session_calls_check_their_options_before_a_request(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Options of calls on a session are checked before the first request."""
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
async def test_functions_must_be_async_only_where_they_are_awaited(veriff: VeriffClient, value: object) -> None:
    """An async function would always count as true as `until`, and a plain one cannot be awaited as `on_uploaded`."""
    session = await veriff.create_session()
    with pytest.raises(InvalidArgumentError, match="until must be a"):
        await session.wait_for_decision(until=cast("Any", value))
    with pytest.raises(InvalidArgumentError, match="on_uploaded must be an async function"):
        await session.upload(Media(PICTURE, "face"), on_uploaded=cast("Any", lambda _index, _receipt: None))


@pytest.mark.parametrize("name", ["on_resubmission", "progress"])
@pytest.mark.parametrize("function", [lambda: None, lambda _1, _2, _3: None, lambda _1, _2, *, _key: None])
async def test_functions_must_take_the_arguments_that_they_get(
    sandbox: Sandbox, veriff: VeriffClient, name: str, function: object
) -> None:
    """A function with other arguments is refused before a session is created, and not when it is called, days later."""
    options: dict[str, Any] = {name: function}
    with pytest.raises(InvalidArgumentError, match=f"{name} must be a function that takes an? "):
        await veriff.verify(media=[Media(PICTURE, "face")], **options)

    assert sandbox.requests == ()


@pytest.mark.parametrize("part", ["extra", "device", "network", "browser", "email", "provider_name"])
async def test_collected_data_of_another_type_is_refused(sandbox: Sandbox, veriff: VeriffClient, part: str) -> None:
    """The type of every part of collected data is checked, and of the fields of each part."""
    valid: dict[str, Any] = {
        "provider_name": "provider",
        "device": Device(fingerprint="print"),
        "network": Network(address_v4="192.0.2.1"),
    }
    invalid_fields: dict[str, list[object]] = {
        "device": [Device(fingerprint="print", model=cast("Any", value)) for value in (5, Hostile(), 10**5000)],
        "network": [Network(address_v4="192.0.2.1", asn=cast("Any", value)) for value in (5, "x", Hostile())],
        "browser": [Browser(language=cast("Any", value)) for value in (5, Hostile())],
    }
    for value in (5, object(), [1], Hostile(), *invalid_fields.get(part, [])):
        with pytest.raises(InvalidArgumentError):
            await veriff.session(SESSION).send_collected_data(CollectedData(**valid | {part: value}))

    assert sandbox.requests == ()


@pytest.mark.parametrize(
    "extra", [{"a": 10**5000}, {"a": _nested()}, _nested(), {"a": -(10**400)}], ids=["huge", "deep", "deeper", "low"]
)
async def test_extra_that_cannot_be_parsed_is_refused(
    sandbox: Sandbox, veriff: VeriffClient, extra: dict[str, object]
) -> None:
    """Numbers that are too long, and nesting that is too deep, are refused before the first request."""
    with pytest.raises(InvalidArgumentError, match="extra cannot be sent"):
        await veriff.create_session(extra=extra)

    assert sandbox.requests == ()


@pytest.mark.parametrize("value", [CANARY, -1, math.nan, True])
async def test_collection_refuses_a_timeout_that_is_no_duration(veriff: VeriffClient, value: object) -> None:
    """`collect_many` names the argument before it reads the journal."""
    with pytest.raises(InvalidArgumentError, match="timeout is") as caught:
        await anext(collect_many(veriff, journal=MemoryJournal(), timeout=cast("Any", value)))
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("value", [CANARY, 5, Hostile(), [CANARY]], ids=["text", "number", "hostile", "list"])
def test_encoding_a_model_with_a_field_of_another_type_raises_our_error(value: object) -> None:
    """The error does not show the value."""
    for model in (DecisionEvent(decision=cast("Any", value)), WatchlistEvent(screening=cast("Any", value))):
        with pytest.raises(InvalidArgumentError) as caught:
            dump_json(model)
        assert CANARY not in str(caught.value)


def test_class_of_an_inbox_is_refused_as_an_inbox() -> None:
    """The error says that an instance is needed."""
    with pytest.raises(ConfigurationError, match="inbox must be an Inbox"):
        VeriffClient(CREDENTIALS, base_url="https://veriff.example", inbox=cast("Any", MemoryInbox))


def test_message_shows_only_numbers_flags_and_short_words() -> None:
    """Other values may contain secrets or personal data, so a message has only their type."""
    assert [describe_value(value) for value in (5, math.nan, True, None, "overwrite")] == [
        "5",
        "nan",
        "True",
        "None",
        "'overwrite'",
    ]
    assert [describe_value(value) for value in (10**5000, CANARY, [CANARY])] == [
        "a very large number",
        "of type str",
        "of type list",
    ]
    assert check_number("n", 5, remedy="give one") == 5
    check_function("f", asyncio.sleep, may_be_async=True)
