"""The timeline: what happened in the sandbox, in one order, with the reason of each refusal."""

from __future__ import annotations

import asyncio
import base64
import json
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import pytest
from attrs import fields
from hypothesis import given, settings, strategies as st

from veriff_async._protocol.signing import sign
from veriff_async.errors import InvalidArgumentError
from veriff_async.sandbox import (
    ChaosProfile,
    Fault,
    FaultEntry,
    GapEntry,
    RequestEntry,
    Sandbox,
    SettingEntry,
    TimelineEntry,
    TimelineKind,
    VirtualClock,
)
from veriff_async.sandbox._timeline import TimelineRecorder
from veriff_async.webhooks import SignatureCause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.sandbox.conftest import Caller, StartSandbox

pytestmark = pytest.mark.anyio

TIME: Final = VirtualClock().now()
PICTURE: Final = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(500)).decode()
BODY: Final = b'{"verification":{"person":{"firstName":"Ada"}}}'
WRONG: Final = "0" * 64


def add(timeline: TimelineRecorder, *session_ids: str | None) -> None:
    """Add an entry for each session."""
    for session_id in session_ids:
        timeline.add(TIME, partial(SettingEntry, setting="state", change="reset", session_id=session_id))


def numbers(entries: tuple[TimelineEntry, ...]) -> list[int]:
    """Return the numbers of entries."""
    return [entry.number for entry in entries]


def requests_of(sandbox: Sandbox) -> list[RequestEntry]:
    """Return the requests in the timeline."""
    return [entry for entry in sandbox.timeline.entries(kind="request") if isinstance(entry, RequestEntry)]


async def refuse(
    caller: Caller, path: str, *, method: str = "POST", data: bytes | None = None, headers: dict[str, str] | None = None
) -> RequestEntry:
    """Send a request that is refused, and return its entry."""
    reply = await caller.send(method, path, data=data, headers=headers)
    assert 401 == reply.status
    return requests_of(caller.sandbox)[-1]


async def test_request_has_method_path_endpoint_status_session_and_verdict(caller: Caller) -> None:
    """A request is an entry with everything that a developer asks first, except its body."""
    session_id = await caller.create()
    await caller.decision(session_id)

    created, asked = requests_of(caller.sandbox)
    assert ("POST", "/v1/sessions", "POST /v1/sessions", 201) == (
        created.method,
        created.path,
        created.endpoint,
        created.status,
    )
    assert "GET /v1/sessions/{id}/decision" == asked.endpoint
    assert f"/v1/sessions/{session_id}/decision" == asked.path
    assert {session_id} == {created.session_id, asked.session_id}
    # Number 1 is the creation of the session, which the first request has caused.
    assert [2, 3] == [created.number, asked.number]
    assert TIME == asked.time
    assert asked.signature is not None
    assert ("valid", None, "") == (asked.signature.result, asked.signature.cause, asked.signature.advice)
    assert asked.duration > 0


async def test_unsigned_creation_has_no_verdict(caller: Caller) -> None:
    """The signature of a creation is optional, so its absence is no mistake."""
    await caller.send("POST", "/v1/sessions", data=BODY, headers={"X-AUTH-CLIENT": caller.sandbox.credentials.api_key})

    (created,) = requests_of(caller.sandbox)
    assert created.signature is None
    assert created.session_id is not None


@pytest.mark.parametrize(
    ("signed", "cause", "advice"),
    [
        (json.dumps(json.loads(BODY)).encode(), SignatureCause.RESERIALISED, "send the same bytes"),
        (BODY + b"\n", SignatureCause.TRAILING_NEWLINE, "white space at an end of the body. Serialise"),
        (b"", SignatureCause.OTHER_TEXT, "that of an empty text: sign the raw body."),
        (b"/v1/sessions", SignatureCause.OTHER_TEXT, "that of the path: sign the raw body."),
        (b"another text", SignatureCause.UNKNOWN, "Sign the raw body with the shared secret"),
    ],
)
async def test_wrong_signature_has_a_cause_and_advice(
    caller: Caller, signed: bytes, cause: SignatureCause, advice: str
) -> None:
    """A refused signature says which mistake the client has made, and what to do instead."""
    entry = await refuse(caller, "/v1/sessions", data=BODY, headers=caller.signed(signed))

    assert entry.signature is not None
    assert "wrong" == entry.signature.result
    assert cause is entry.signature.cause
    assert advice in str(entry)
    assert "1819" == entry.code


async def test_wrong_secret_and_wrong_encoding_are_found(caller: Caller) -> None:
    """Mistakes with the secret and with the form of the digest are found without the body."""
    session_id = await caller.create()
    path = f"/v1/sessions/{session_id}/decision"
    credentials = caller.sandbox.credentials
    quoted = sign(f'"{credentials.shared_secret}"', session_id.encode())
    digest = base64.b64encode(caller.signature(session_id.encode()).digest()).decode()
    causes: list[SignatureCause | None] = []
    for signature in (quoted, digest, "short"):
        headers = {"X-AUTH-CLIENT": credentials.api_key, "X-HMAC-SIGNATURE": signature}
        entry = await refuse(caller, path, method="GET", headers=headers)
        assert entry.signature is not None
        assert session_id == entry.session_id
        causes.append(entry.signature.cause)

    assert [SignatureCause.SECRET_FORM, SignatureCause.BASE64, SignatureCause.NOT_HEX] == causes


async def test_request_without_body_that_signs_the_path_is_explained(caller: Caller) -> None:
    """The commonest mistake of a GET request, which signs its id, is named."""
    path = f"/v1/sessions/{await caller.create()}/decision"
    entry = await refuse(caller, path, method="GET", headers=caller.signed(path.encode()))

    assert entry.signature is not None
    assert "The signature is that of the path: sign the id as it is written in the path." == entry.signature.advice


async def test_missing_headers_and_another_key_are_found(caller: Caller) -> None:
    """A missing header is named, and another API key is distinguished from a wrong signature."""
    other = {"X-AUTH-CLIENT": "6ad63adf-21a8-4748-9257-f15f01e2a930", "X-HMAC-SIGNATURE": WRONG}
    missing = await refuse(caller, "/v1/sessions", data=BODY)
    foreign = await refuse(caller, "/v1/sessions", data=BODY, headers=other)

    assert missing.signature is not None
    assert foreign.signature is not None
    assert ("missing", SignatureCause.MISSING) == (missing.signature.result, missing.signature.cause)
    assert "Mandatory X-AUTH-CLIENT header is missing" in missing.signature.advice
    assert ("wrong", SignatureCause.FOREIGN_CLIENT) == (foreign.signature.result, foreign.signature.cause)
    assert ["1801", "1803"] == [missing.code, foreign.code]


async def test_small_upload_is_explained_and_a_large_one_says_how_to_see_the_cause(caller: Caller) -> None:
    """A streamed body is kept for the explanation only while it is small."""
    path = f"/v1/sessions/{await caller.create()}/media"
    small = json.dumps({"image": {"context": "face", "content": PICTURE}}).encode()
    large = json.dumps({"image": {"context": "face", "content": "A" * 100_000}}).encode()
    respaced = json.dumps(json.loads(small), separators=(",", ":")).encode()
    first = await refuse(caller, path, data=small, headers=caller.signed(respaced))
    second = await refuse(caller, path, data=large, headers=caller.signed(b"x"))
    third = await refuse(caller, path, data=large, headers=caller.signed(path.split("/")[3].encode()))

    assert [SignatureCause.RESERIALISED, SignatureCause.TOO_LARGE, SignatureCause.OTHER_TEXT] == [
        entry.signature.cause for entry in (first, second, third) if entry.signature is not None
    ]
    assert second.signature is not None
    assert "less than 64 KiB" in second.signature.advice


async def test_feedback_api_is_explained(caller: Caller) -> None:
    """The feedback API signs the path and the body, and reads headers of its own."""
    path, body = "/v1/feedback/fraud-reports", b"{}"
    entry = await refuse(caller, path, data=body, headers=caller.signed(body, family="VRF"))
    missing = await refuse(caller, path, data=body, headers=caller.signed(path.encode() + b"\n" + body))

    assert entry.signature is not None
    assert missing.signature is not None
    assert "missing" == missing.signature.result
    assert "VRF-AUTH-CLIENT" in missing.signature.advice
    assert "The signature is that of the raw body alone: sign the path" in entry.signature.advice


async def test_requests_about_parts_of_a_session_belong_to_it(caller: Caller) -> None:
    """A request for a file or an attempt is on the page of its session."""
    session_id = await caller.create()
    media_id = (await caller.upload(session_id, PICTURE)).json["image"]["id"]
    attempt_id = caller.sandbox.session(session_id).attempts[0].id
    await caller.get(f"/v1/media/{media_id}", media_id)
    await caller.get(f"/v1/attempts/{attempt_id}/media", attempt_id)
    await caller.get(f"/v1/sessions/{session_id.upper()}/decision", session_id.upper())

    entries = caller.sandbox.timeline.entries(session_id=session_id, kind=TimelineKind.REQUEST)
    assert len(requests_of(caller.sandbox)) == len(entries)


async def test_fault_chaos_and_clock_are_entries_and_causes(start_sandbox: StartSandbox) -> None:
    """A test that injects faults sees when, and which request was hit."""
    async with start_sandbox(clock=VirtualClock()) as caller:
        sandbox = caller.sandbox
        sandbox.inject(Fault.status(503), path="/v1/*", times=2)
        await caller.send("GET", "/v1/sessions")
        sandbox.clear_faults()
        sandbox.chaos = "perfect"
        sandbox.chaos = None
        sandbox.advance(60)

        entries = sandbox.timeline.entries()
        assert [
            "fault injected: status 503, 2 times, for any method, /v1/*",
            "faults cleared: 1",
            "chaos: perfect",
            "chaos: none",
            "clock: advanced by 60 s",
        ] == [entry.summary for entry in entries if isinstance(entry, FaultEntry | SettingEntry)]
        (request,) = requests_of(sandbox)
        assert (503, "injected fault", None) == (request.status, request.cause, request.signature)


async def test_request_that_a_fault_hits_belongs_to_its_session(caller: Caller) -> None:
    """The page of a session shows its requests, although a fault skips what answers them."""
    session_id = await caller.create()
    caller.sandbox.inject(Fault.status(503))
    await caller.decision(session_id)

    assert ("injected fault", session_id) == (
        requests_of(caller.sandbox)[-1].cause,
        requests_of(caller.sandbox)[-1].session_id,
    )


async def test_request_of_a_client_that_disconnects_is_an_entry(start_sandbox: StartSandbox) -> None:
    """A client that gives up is visible, although no response was sent."""
    async with start_sandbox() as caller:
        caller.sandbox.inject(Fault.hang())
        entries = caller.sandbox.timeline.subscribe()
        host, _, port = caller.sandbox.base_url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.transport.abort()
        entry = await anext(entries)

        assert isinstance(entry, RequestEntry)
        assert (None, "the client has disconnected") == (entry.status, entry.cause)


async def test_entries_contain_no_body_secret_query_or_name(caller: Caller) -> None:
    """An entry can be shown to everyone: personal data in a path or a query is left out."""
    secret = caller.sandbox.credentials.shared_secret
    await caller.create(person={"firstName": "Ada"}, vendorData="Lovelace")
    await caller.send("GET", "/v1/people/ada@example.com?name=Lovelace")
    await caller.send("GET", "/v1/sessions/%1b[31mAda%0a/decision", headers=caller.signed(b"x"))
    await caller.send("POST", "/v1/sessions", data=BODY, headers=caller.signed(b"x"))
    await caller.send("GET", "/" + "a" * 5000)

    entries = caller.sandbox.timeline.entries()
    shown = "\n".join(f"{entry!r}\n{entry}\n{json.dumps(entry.to_dict())}" for entry in entries)
    for word in ("Ada", "Lovelace", "example.com", secret, "\x1b"):
        assert word not in shown
    assert ["/v1/people/…", "/v1/sessions/…/decision"] == [entry.path for entry in requests_of(caller.sandbox)[1:3]]
    assert all(len(entry.path) <= 200 for entry in requests_of(caller.sandbox))


def test_texts_of_users_stay_one_short_line() -> None:
    """The name of a profile or a method can neither move the cursor of a terminal nor fill it."""
    sandbox = Sandbox(clock=VirtualClock())
    for text in ("\x1b[31mred\nnext\u202e", "x" * 100_000):
        sandbox.chaos = ChaosProfile(name=text)
        sandbox.inject(Fault.drop(), method=text, path=f"/{text}")

    lines = sandbox.timeline.text().splitlines()
    assert 4 == len(lines)
    assert all(line.isprintable() and len(line) < 500 for line in lines)
    assert "chaos: ?[31mred?next?" in lines[0]


async def test_health_checks_and_pages_are_no_entries(caller: Caller) -> None:
    """Requests to the sandbox itself are not in the timeline."""
    await caller.send("GET", "/healthz")
    await caller.send("GET", "/v/none")

    assert 0 == len(caller.sandbox.timeline)


def test_entries_are_the_last_ones_or_the_first_after_a_number() -> None:
    """Without `after` a page ends with the newest entry; with it a page continues."""
    timeline = TimelineRecorder()
    add(timeline, *"abcabcabca")

    assert [8, 9, 10] == numbers(timeline.entries(limit=3))
    assert [5, 6, 7] == numbers(timeline.entries(limit=3, before=8))
    assert [3, 4, 5] == numbers(timeline.entries(limit=3, after=2))
    assert [3] == numbers(timeline.entries(after=2, before=4))
    assert [4, 7, 10] == numbers(timeline.entries(session_id="a", limit=3))
    assert [1, 4] == numbers(timeline.entries(session_id="a", before=7))
    assert [7, 10] == numbers(timeline.entries(session_id="a", after=4))
    assert [] == numbers(timeline.entries(kind="request"))
    assert [9, 10] == numbers(timeline.entries(kind="setting", limit=2))
    assert [2, 3] == numbers(timeline.entries(kind="setting", limit=2, after=1))
    assert [] == numbers(timeline.entries(after=10)) == numbers(timeline.entries(before=1))
    assert [] == numbers(timeline.entries(after=5, before=3)) == numbers(timeline.entries(after=10**6))
    assert [] == numbers(timeline.entries(session_id="d"))
    assert timeline.text(limit=2).splitlines() == [str(entry) for entry in timeline.entries(limit=2)]


def test_timeline_is_bounded_and_its_numbers_continue() -> None:
    """The oldest entries are forgotten, in total and for each session."""
    timeline = TimelineRecorder(capacity=4)
    add(timeline, *"ababab", None)

    assert [4, 5, 6, 7] == numbers(timeline.entries()) == numbers(timeline.entries(after=0))
    assert [4, 5] == numbers(timeline.entries(after=0, limit=2)) == numbers(timeline.entries(before=6))
    assert [6, 7] == numbers(timeline.entries(limit=2)) == numbers(timeline.entries(limit=2, kind="setting"))
    assert [5] == numbers(timeline.entries(session_id="a"))
    assert [4, 6] == numbers(timeline.entries(session_id="b", after=0))
    add(timeline, None, None, None, None)
    assert 4 == len(timeline)
    assert [] == numbers(timeline.entries(session_id="b"))
    timeline.restart(TIME, partial(SettingEntry, setting="state", change="reset"))
    assert [12] == numbers(timeline.entries())


@pytest.mark.parametrize(
    "arguments",
    [{"after": -1}, {"before": 1.5}, {"limit": 0}, {"limit": True}, {"kind": "requests"}, {"session_id": 1}],
)
def test_wrong_arguments_of_entries_are_refused(arguments: dict[str, Any]) -> None:
    """A wrong argument is an error that names it, rather than an empty page."""
    with pytest.raises(InvalidArgumentError, match=next(iter(arguments))):
        TimelineRecorder().entries(**arguments)


def test_threads_get_numbers_without_gaps() -> None:
    """Entries may be added from many threads."""
    timeline = TimelineRecorder()
    threads = [Thread(target=add, args=(timeline, *"abcde" * 100)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(range(1, 2001)) == numbers(timeline.entries(limit=5000))
    assert 400 == len(timeline.entries(session_id="a", limit=5000))


async def test_subscription_gets_entries_as_they_are_added_by_any_thread() -> None:
    """A subscriber starts after the newest entry, or after a number, and is woken by entries of other threads."""
    timeline = TimelineRecorder()
    add(timeline, "a", "b")
    entries, all_entries = timeline.subscribe(), timeline.subscribe(after=0)
    waiting = asyncio.ensure_future(anext(entries))
    await asyncio.sleep(0)
    await asyncio.to_thread(add, timeline, "c")

    assert 3 == (await waiting).number
    assert [1, 2, 3] == [(await anext(all_entries)).number for _ in range(3)]


async def test_slow_subscriber_gets_a_gap_and_continues() -> None:
    """A reader that is slower than the sandbox learns how many entries it has missed."""
    timeline = TimelineRecorder(capacity=3)
    add(timeline, "a")
    entries = timeline.subscribe()
    add(timeline, *"bcdefg")

    gap = await anext(entries)
    assert isinstance(gap, GapEntry)
    assert (4, 3) == (gap.number, gap.missing)
    assert [5, 6, 7] == [(await anext(entries)).number for _ in range(3)]


async def test_cancelled_wait_loses_no_entry_and_leaves_nothing() -> None:
    """A subscription can be used with a timeout."""
    timeline = TimelineRecorder()
    entries = timeline.subscribe()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(entries), 0.001)
    assert not [*vars(timeline)["_waiting"]]
    add(timeline, "a", "b")

    assert [1, 2] == [(await anext(entries)).number for _ in range(2)]


async def test_subscriptions_end_when_the_sandbox_stops() -> None:
    """The stop ends each subscription after the last entry, in every loop; a new start allows new ones."""
    sandbox = Sandbox(clock=VirtualClock())
    for _ in range(2):
        async with sandbox:
            entries = sandbox.timeline.subscribe()
            sandbox.advance(1)
            waiting = asyncio.create_task(collect(entries))
            await asyncio.sleep(0)
        assert 1 == len(await waiting)
    entries = sandbox.timeline.subscribe()
    await asyncio.to_thread(run_in_thread, sandbox)
    assert 1 == len(await collect(entries))


def run_in_thread(sandbox: Sandbox) -> None:
    """Run a sandbox that has a loop of its own."""
    with sandbox:
        sandbox.advance(1)


async def collect(entries: AsyncIterator[TimelineEntry]) -> list[TimelineEntry]:
    """Return all entries until the end of a subscription."""
    return [entry async for entry in entries]


async def test_number_of_another_run_starts_with_the_next_entry() -> None:
    """A page that reconnects to a sandbox that was started again gets its new entries."""
    timeline = TimelineRecorder()
    add(timeline, "a")
    entries = timeline.subscribe(after=500)
    add(timeline, "b")

    assert 2 == (await anext(entries)).number


async def test_long_record_does_not_block_the_loop() -> None:
    """A reader of many entries lets other tasks run."""
    timeline = TimelineRecorder()
    add(timeline, *"a" * 1000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    entries = timeline.subscribe(after=0)
    for _ in range(1000):
        await anext(entries)
    counting.cancel()

    assert turns >= 10


def every_kind() -> Iterator[type[TimelineEntry]]:
    """Return all classes of entries."""
    yield from TimelineEntry.__subclasses__()


def test_every_kind_has_one_class_and_a_json_form() -> None:
    """Programs in other languages distinguish entries by their kind."""
    assert set(TimelineKind) == {entry.kind for entry in every_kind()}
    entry = SettingEntry(number=7, time=TIME, setting="clock", change="advanced by 1 s")
    assert {
        "kind": "setting",
        "number": 7,
        "time": "2025-01-01T00:00:00Z",
        "session_id": None,
        "setting": "clock",
        "change": "advanced by 1 s",
        "summary": "clock: advanced by 1 s",
    } == entry.to_dict()
    assert "    7  2025-01-01 00:00:00  clock: advanced by 1 s" == str(entry)
    assert {each.name for each in fields(SettingEntry)} < set(entry.to_dict())


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(1, 7),
    added=st.lists(st.sampled_from(["a", "b", None, "restart"]), max_size=25),
    query=st.fixed_dictionaries(
        {"session_id": st.sampled_from(["a", "b", None]), "limit": st.integers(1, 9)},
        optional={"after": st.integers(0, 30), "before": st.integers(0, 30), "kind": st.just("setting")},
    ),
)
def test_entries_are_those_of_a_list(capacity: int, added: list[str | None], query: dict[str, Any]) -> None:
    """The ring and the index of sessions give the same entries as a list that is searched."""
    timeline = TimelineRecorder(capacity=capacity)
    kept: list[tuple[int, str | None]] = []
    for number, each in enumerate(added, 1):
        if each == "restart":
            kept = [(number, None)]
            timeline.restart(TIME, partial(SettingEntry, setting="state", change="reset"))
        else:
            kept = [*kept, (number, each)][-capacity:]
            add(timeline, each)

    low, high = query.get("after", -1), query.get("before", 99)
    wanted = [number for number, owner in kept if low < number < high and query["session_id"] in {None, owner}]
    limit = query["limit"]
    assert (wanted[:limit] if "after" in query else wanted[-limit:]) == numbers(timeline.entries(**query))
    assert len(kept) == len(timeline)
