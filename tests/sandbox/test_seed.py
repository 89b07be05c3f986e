"""`Sandbox.seed`: sessions in chosen states, which behave like all others."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread
from hypothesis import given, settings, strategies as st

from veriff_async import Decision, InvalidArgumentError, Status, from_json
from veriff_async.sandbox import Sandbox, SandboxOptions, SessionView, VirtualClock, WebhookKind
from veriff_async.sandbox._seed import SEED_STATUSES
from veriff_async.sandbox._specimens import SPECIMEN_FILES

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

EVENTS = {Status.STARTED, Status.SUBMITTED}


def test_each_status_has_its_share() -> None:
    """Sessions are spread equally over the statuses, and look as if they had gone through them."""
    sandbox = Sandbox(clock=VirtualClock())
    ids = sandbox.seed(90)
    assert list(ids) == [session.id for session in sandbox.sessions]
    assert [f"seed-{number}" for number in range(1, 91)] == [session.vendor_data for session in sandbox.sessions]
    assert {10} == {sandbox.find_sessions(status=status).total for status in SEED_STATUSES}
    for session in sandbox.sessions:
        check(session, sandbox)


def check(session: SessionView, sandbox: Sandbox) -> None:
    """Check that a session is like one that people have used."""
    now = sandbox._service.clock.now()
    first = session.attempts[0]
    times = [session.created_at, first.started_at, first.submitted_at, first.decided_at]
    known = [time for time in times if time is not None]
    assert sorted(known) == known
    assert known[-1] <= now
    is_decided = session.status not in {Status.CREATED, *EVENTS}
    assert is_decided == (session.decision is not None) == (first.decided_at is not None)
    used = {Status.STARTED: 1, Status.ABANDONED: 1, Status.CREATED: 0, Status.EXPIRED: 0}
    assert used.get(session.status, 3) == len(session.media)
    assert (2 if session.status == Status.RESUBMISSION_REQUESTED else 1) == len(session.attempts)
    if session.decision is not None:
        decision = from_json(Decision, session.decision)
        assert (session.status, session.id, first.id) == (decision.status, decision.session_id, decision.attempt_id)
        if session.status in {Status.DECLINED, Status.RESUBMISSION_REQUESTED}:
            assert decision.reason
            assert decision.known_reason is not None
    assert str(session.person["lastName"]).endswith(" [EXAMPLE]")
    assert str(session.person["dateOfBirth"]).startswith("190")


def test_same_seed_gives_the_same_sessions() -> None:
    """After a reset a seed gives equal sessions, with their ids; another seed, and a second call, give others."""
    sandbox = Sandbox(clock=VirtualClock())
    sandbox.seed(40, seed=5)
    first = sandbox.sessions
    sandbox.seed(40, seed=5)
    assert 80 == len({session.id for session in sandbox.sessions})
    sandbox.reset()
    sandbox.seed(40, seed=5)
    assert first == sandbox.sessions
    sandbox.reset()
    sandbox.seed(40, seed=6)
    assert not {session.id for session in first} & {session.id for session in sandbox.sessions}


@settings(max_examples=25, deadline=None)
@given(
    sessions=st.integers(1, 30),
    statuses=st.lists(st.sampled_from(SEED_STATUSES), min_size=1, max_size=4),
    seed=st.integers(0, 2**53 - 1),
    lifetime=st.sampled_from([0, 0.001, 7, 5000]),
    full_auto=st.booleans(),
)
def test_any_seed_gives_the_chosen_statuses(
    sessions: int,
    statuses: list[Status],
    seed: int,
    lifetime: float,
    full_auto: bool,  # noqa: FBT001
) -> None:
    """By any rules, sessions have the chosen statuses, in the order of their creation, for a while."""
    options = SandboxOptions(session_lifetime_days=lifetime, full_auto=full_auto, end_user_id_must_be_uuid=True)
    sandbox = Sandbox(clock=VirtualClock(), options=options, decide_after=0)
    sandbox.seed(sessions, statuses=statuses, seed=seed)
    seen = sandbox.sessions
    expected = sorted(statuses[number % len(statuses)] for number in range(sessions))
    if lifetime:
        assert expected == sorted(session.status for session in seen)
    created = [session.created_at for session in seen]
    assert sorted(created) == created


def test_undecided_sessions_end_like_all_others() -> None:
    """Seven days after its creation an undecided session is expired, or abandoned if it was used."""
    sandbox = Sandbox(clock=VirtualClock())
    sandbox.seed(60, statuses=["created", "started", "submitted", "resubmission_requested", "review"])
    sandbox.advance(timedelta(days=7).total_seconds())
    ended = {status: sandbox.find_sessions(status=status).total for status in ("expired", "abandoned")}
    assert {"expired": 12, "abandoned": 48} == ended


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sessions": 0}, "sessions"),
        ({"sessions": 100_001}, "sessions"),
        ({"sessions": 1.5}, "sessions"),
        ({"sessions": True}, "sessions"),
        ({"statuses": "approved"}, "statuses must be a list"),
        ({"statuses": 5}, "statuses must be a list"),
        ({"statuses": []}, "statuses is empty"),
        ({"statuses": ["approvedd"]}, "did you mean 'approved'"),
        ({"statuses": [5]}, "a status of statuses"),
        ({"statuses": ["inflow_completed"]}, "a status of statuses"),
        ({"seed": -1}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"seed": 2**53}, "seed"),
    ],
    ids=str,
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    """A wrong argument is named, and adds no session."""
    sandbox = Sandbox()
    with pytest.raises(InvalidArgumentError, match=message):
        sandbox.seed(**arguments)
    assert () == sandbox.sessions


@pytest.mark.anyio
async def test_clients_use_seeded_sessions(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """The API answers about them, their pictures can be downloaded, and no webhook is posted before `resend`."""
    urls = dict.fromkeys(WebhookKind, receiver.url)
    async with start_sandbox(clock=VirtualClock(), webhook_urls=urls, decide_after=0) as caller:
        sandbox = caller.sandbox
        approved, started = (sandbox.seed(1, statuses=[status])[0] for status in ("approved", "started"))
        assert "approved" == (await caller.decision(approved)).json["verification"]["status"]
        for media in sandbox.session(approved).media:
            reply = await caller.get(f"/v1/media/{media.id}", media.id)
            assert (200, media.sha256) == (reply.status, hashlib.sha256(reply.body).hexdigest())
        assert 200 == (await caller.upload(started, "/9j/4AAQ", "face")).status
        await sandbox.wait_idle()
        assert () == sandbox.deliveries
        sandbox.resend(approved)
        assert approved == (await receiver.next()).json["verification"]["id"]


@pytest.mark.anyio
async def test_reset_keeps_the_pictures_of_the_library(caller: Caller) -> None:
    """The files of seeded sessions belong to the library, and a reset does not remove them."""
    caller.sandbox.seed(3, statuses=["approved"])
    caller.sandbox.reset()
    await caller.sandbox.wait_idle()
    assert await to_thread.run_sync(lambda: all(file.path.exists() for file in SPECIMEN_FILES))


def test_reset_during_a_seed_leaves_no_part_of_it() -> None:
    """The call raises, and none of its sessions is left; calls at the same time never make the same session."""
    sandbox = Sandbox(clock=VirtualClock())
    errors: list[InvalidArgumentError] = []

    def seed() -> None:
        try:
            sandbox.seed(1200, statuses=["created"])
        except InvalidArgumentError as error:
            errors.append(error)

    threads = [Thread(target=seed) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not sandbox.find_sessions(limit=1).total:
        pass
    sandbox.reset()
    for thread in threads:
        thread.join()
    left = sandbox.sessions
    # A call that was complete before the reset, or began after it, has no error.
    assert len(left) == len({session.id for session in left})
    assert len(left) in range(0, 1200 * (2 - len(errors)) + 1, 1200)
    assert all("reset" in str(error) for error in errors)
    assert 1 == len(sandbox.seed(1))
