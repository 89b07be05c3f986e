"""The index of the sessions: equal to a search of every session, after any changes."""

from __future__ import annotations

import unicodedata
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from veriff_async import Credentials, InvalidArgumentError, Status
from veriff_async.models.json import as_object
from veriff_async.sandbox import SessionView, StoredMedia, VirtualClock
from veriff_async.sandbox._changes import SessionChanges
from veriff_async.sandbox._decision_spec import DecisionSpec
from veriff_async.sandbox._endpoints import ApiRequest, Endpoints
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._rules import SandboxRules
from veriff_async.sandbox._scenario import Scenario
from veriff_async.sandbox._service import SandboxService

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Caller, StartSandbox

NAMES = ["Ada", "ADA", "Grace Ann", "Josémaria", "Jose\u0301", "ﬁona", "İbrahim", "", "decline", "a\nb", "0"]
WORDS = [
    "ada",
    "josé",
    "fiona",
    "grace ann",
    "ann grace",
    "user 1",
    "user-2",
    "0",
    "00000000",
    "İ",
    "  ",
    "none",
    "b\na",
]
PAGE = 3


def has_word(session: SessionView, word: str) -> bool:
    """Return whether a session has a word, in the plainest way."""
    decided = as_object((session.decision or {}).get("verification")) or {}
    people = (session.person, as_object(decided.get("person")) or {})
    texts = [session.vendor_data, session.end_user_id]
    texts += [person.get(name) for person in people for name in ("firstName", "lastName", "fullName")]  # type: ignore[misc]
    ids = [session.id, *(attempt.id for attempt in session.attempts)]
    return any(word in fold(text) for text in texts if isinstance(text, str)) or any(
        id_.startswith(word) for id_ in ids
    )


def fold(text: str) -> str:
    """Fold a text, as the documentation says."""
    return unicodedata.normalize("NFKC", text).casefold()


def find(sessions: tuple[SessionView, ...], status: Status | None, search: str) -> list[str]:
    """Return the ids of all sessions that match, newest first, without an index."""
    return [
        session.id
        for session in reversed(sessions)
        if status in {None, session.status} and all(has_word(session, word) for word in fold(search).split())
    ]


class Sessions(RuleBasedStateMachine):
    """Any changes of some sessions, with those that fail."""

    def __init__(self) -> None:
        """Start without sessions."""
        super().__init__()
        self.ids = count(1)
        self.clock = VirtualClock()
        self.service = SandboxService(
            credentials=Credentials("f9ae4cbd-9a3f-4a3b-b07b-7f1a2f4f9d10", "secret"),
            clock=self.clock,
            scenario=Scenario(SandboxRules(decide_after=60), new_id=self.new_id),
            wake=lambda: None,
        )
        self.endpoints = Endpoints(self.service)
        self.changes = SessionChanges(self.service)
        self.states = [self.service.capture()]

    def new_id(self) -> str:
        """Return an id."""
        return str(UUID(int=next(self.ids) << 96, version=4))

    def pick(self, number: int) -> str:
        """Return the id of a session, or another id if there is none."""
        sessions = self.service.sessions()
        return sessions[number % len(sessions)].id if sessions else str(UUID(int=0, version=4))

    @initialize()
    def begin(self) -> None:
        """Create a session to change."""
        self.create("Ada", 0)

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 3))
    def create(self, name: str, number: int) -> None:
        """Create a session."""
        verification = {"person": {"firstName": name}, "vendorData": f"user {number}", "endUserId": f"user-{number}"}
        self.endpoints.create_session(ApiRequest(body={"verification": verification}))

    @rule(which=st.integers(0, 9))
    def upload(self, which: int) -> None:
        """Upload a file, which some sessions refuse."""
        media = StoredMedia(id=self.new_id(), context="face", mimetype="image/jpeg", size=1, sha256="", path=Path())
        ignore(lambda: self.endpoints.upload_media(ApiRequest(ids={"id": self.pick(which)}, media=(media,))))

    @rule(which=st.integers(0, 9))
    def submit(self, which: int) -> None:
        """Submit a session, which some refuse."""
        body = {"verification": {"status": "submitted"}}
        ignore(lambda: self.endpoints.submit_session(ApiRequest(ids={"id": self.pick(which)}, body=body)))

    @rule(which=st.integers(0, 9), status=st.sampled_from(list(Status)), name=st.sampled_from(NAMES))
    def decide(self, which: int, status: Status, name: str) -> None:
        """Decide a session, with another name."""
        spec = DecisionSpec(status=status, person={"firstName": name})
        ignore(
            lambda: self.service.change(
                self.pick(which), lambda scenario, session, now: scenario.decide(session, spec, now=now)
            )
        )

    @rule(which=st.integers(0, 9))
    def fail_after_the_change(self, which: int) -> None:
        """Raise after a session was changed in place, and another one was created."""

        def change(scenario: Scenario, session: object, now: object) -> None:
            scenario.decide(session, DecisionSpec(status=Status.APPROVED), now=now)  # type: ignore[arg-type]
            scenario.create({"verification": {}}, now=now, host="")  # type: ignore[arg-type]
            raise InvalidArgumentError

        ignore(lambda: self.service.change(self.pick(which), change))  # type: ignore[arg-type]

    @rule(which=st.integers(0, 9))
    def delete(self, which: int) -> None:
        """Delete a session, which some refuse."""
        ignore(lambda: self.endpoints.delete_session(ApiRequest(ids={"id": self.pick(which)})))

    @rule(which=st.integers(0, 9))
    def open_attempt(self, which: int) -> None:
        """Start another attempt, which some sessions refuse."""
        ignore(lambda: self.service.open_attempt(self.pick(which)))

    @rule(which=st.integers(0, 9))
    def submit_address(self, which: int) -> None:
        """Submit a proof of address, which some sessions refuse."""
        ignore(lambda: self.changes.submit_address(self.pick(which)))

    @rule(number=st.integers(1, 4))
    def seed(self, number: int) -> None:
        """Add sessions in any state."""
        self.service.seed(number)

    @rule()
    def reset(self) -> None:
        """Forget all sessions."""
        self.service.reset()

    @rule()
    def capture(self) -> None:
        """Keep the whole state."""
        self.states.append(self.service.capture())

    @rule(number=st.integers(0, 9))
    def restore(self, number: int) -> None:
        """Return to a state."""
        self.service.restore(self.states[number % len(self.states)])

    @rule(which=st.integers(0, 9))
    def lose_files(self, which: int) -> None:
        """Forget some files, as at the start after a temporary folder was removed."""
        kept = {media for session in self.service.sessions()[which:] for media in session.media}
        self.service.resume(lambda media: media in kept)

    @rule(seconds=st.sampled_from([30, 60, 8 * 86_400]))
    def wait(self, seconds: int) -> None:
        """Let time pass, so that sessions are decided, or expire."""
        self.service.advance(seconds)

    @invariant()
    def pages_are_equal_to_a_search_of_all(self) -> None:
        """Pages contain the sessions that match, each once, newest first; counts and totals agree."""
        sessions = self.service.sessions()
        assert {status: len(find(sessions, status, "")) for status in Status} == self.service.count_sessions()
        for status, search in [*((status, "") for status in (None, *Status)), *((None, word) for word in WORDS)]:
            expected = find(sessions, status, search)
            assert expected == self.read_pages(status, search, total=len(expected))

    @invariant()
    def parts_are_found(self) -> None:
        """Each attempt, file and address of a session that is not deleted is found by its id; others are not."""
        for session in self.service.sessions():
            if session.address_id is not None:
                found = answer(self.endpoints.address, session.address_id)
                assert (found is None) == session.deleted
            for attempt in session.attempts:
                found = answer(self.endpoints.attempt_media, attempt.id)
                assert (found is None) == session.deleted
            for media in session.media:
                found = answer(self.endpoints.download_media, media.id)
                assert found == (None if session.deleted else media)

    def read_pages(self, status: Status | None, search: str, *, total: int) -> list[str]:
        """Return the ids on all pages."""
        found: list[str] = []
        after = None
        while True:
            page = self.service.find_sessions(status=status, search=search, after=after, limit=PAGE)
            assert total == page.total
            assert len(page.sessions) == PAGE or page.next is None
            found += [session.id for session in page.sessions]
            after = page.next
            if after is None:
                return found


def answer(endpoint: Callable[[ApiRequest], object], id_: str) -> object:
    """Return the response of an endpoint, or None for an error."""
    return ignore(lambda: endpoint(ApiRequest(ids={"id": id_})))


def ignore(ask: Callable[[], object]) -> object:
    """Return the result, or None for an error of the library."""
    try:
        return ask()
    except (HTTPError, InvalidArgumentError):
        return None


Sessions.TestCase.settings = settings(
    max_examples=20, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_index_is_equal_to_a_search_of_every_session = pytest.mark.timeout(60)(Sessions.TestCase)


@pytest.mark.anyio
async def test_page_continues_where_the_one_before_ended(caller: Caller) -> None:
    """Sessions that are created, or leave the status, between two pages neither repeat nor hide others."""
    ids = [await caller.create(vendorData=f"user-{number}") for number in range(5)]
    first = caller.sandbox.find_sessions(status="created", limit=2)
    caller.sandbox.decide(ids[3], "approved")
    await caller.create()

    second = caller.sandbox.find_sessions(status="created", limit=2, after=first.next)

    assert ids[:2:-1] == [session.id for session in first.sessions]
    assert ids[2:0:-1] == [session.id for session in second.sessions]
    assert (5, 5, ids[1]) == (first.total, second.total, second.next)


@pytest.mark.anyio
async def test_views_show_times_and_the_decision(caller: Caller) -> None:
    """A view contains when the session and each attempt changed, and its decision as in the response of the API."""
    session_id = await caller.create(callback="https://example.com/done")
    created_at = caller.sandbox.session(session_id).created_at
    caller.sandbox.start_attempt(session_id)
    caller.sandbox.advance(10)
    caller.sandbox.submit_attempt(session_id)
    caller.sandbox.advance(10)
    caller.sandbox.decide(session_id, "resubmission_requested")

    seen = caller.sandbox.session(session_id)

    first, second = seen.attempts
    times = [first.created_at, first.started_at, first.submitted_at, first.decided_at, second.created_at]
    assert [0, 0, 10, 20, 20] == [time and (time - created_at).total_seconds() for time in times]
    assert (None, None, None) == (second.started_at, second.submitted_at, second.decided_at)
    assert (await caller.decision(session_id)).json == seen.decision
    assert "https://example.com/done" == seen.callback
    assert hash(seen) == hash(caller.sandbox.session(session_id))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"status": "approvedd"}, "did you mean 'approved'"),
        ({"status": 5}, "status"),
        ({"search": 5}, "search must be a text"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": True}, "limit"),
        ({"after": 5}, "after must be a text"),
        ({"after": "unknown"}, "after is not the id of a session"),
    ],
    ids=str,
)
async def test_arguments_of_pages_are_checked(
    start_sandbox: StartSandbox, arguments: dict[str, object], message: str
) -> None:
    """An argument that is unknown, out of range or of another type is refused, and named."""
    async with start_sandbox() as caller:
        with pytest.raises(InvalidArgumentError, match=message):
            caller.sandbox.find_sessions(**arguments)  # type: ignore[arg-type]
