"""Snapshots of the whole state: taken, restored elsewhere, and refused when they are damaged or hostile."""

from __future__ import annotations

import hashlib
import json
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from anyio import to_thread
from hypothesis import HealthCheck, given, settings, strategies as st

from veriff_async import ConfigurationError, InvalidArgumentError, Media, VeriffClient
from veriff_async.models import (
    AdditionalVerifiedData,
    IneResult,
    PepSanctionMatch,
    RiskLabel,
    UserDefinedStatus,
    WatchlistScreening,
)
from veriff_async.models.enums import Status
from veriff_async.sandbox import Fault, Sandbox, VirtualClock, WebhookKind, _snapshot
from veriff_async.sandbox._decision_spec import DecisionSpec
from veriff_async.sandbox._records import AttemptRecord, IssuedCertificate, Session, StoredMedia
from veriff_async.sandbox._scenario import Due, Post
from veriff_async.sandbox._state_codec import dump_record, load_record
from veriff_async.testing import strategy_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.anyio

JPEG: Final = b"\xff\xd8\xff\xe0 a picture"
PDF: Final = b"%PDF-1.7 a document"
NOWHERE: Final = "http://127.0.0.1:9/hook"


async def fill(sandbox: Sandbox) -> str:
    """Give a sandbox a state that uses every part of it; return the id of an undecided session."""
    sandbox.webhook_urls = dict.fromkeys(WebhookKind, NOWHERE)
    async with VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session(vendor_data="user-42", person={"first_name": "Ada"})
        await session.upload(Media(JPEG, "document-front"))
        await session.upload(Media(PDF, "address-front"))
        sandbox.issue_certificate(session.id)
        sandbox.submit_address(session.id)
        sandbox.complete_watchlist_screening(session.id)
        sandbox.complete_registry_check(session.id, IneResult(active=True))
        sandbox.set_user_status(session.id, UserDefinedStatus(status="checked"))
        sandbox.set_pep_matches(session.id, PepSanctionMatch())
        await session.submit()
        declined = await veriff.create_session()
        sandbox.hold_webhooks(session_id=declined.id)
        sandbox.decide(declined.id, "declined", reason_code=106, risk_score=0.5, risk_labels=(RiskLabel(label="x"),))
        deleted = await veriff.create_session()
        await deleted.delete()
        await sandbox.wait_idle()
    sandbox.chaos = "mobile"
    sandbox.inject(Fault.status(503, retry_after=2), path="/v1/sessions/*/media", times=3)
    return session.id


def describe(sandbox: Sandbox) -> dict[str, Any]:
    """Return everything that the snapshot of a sandbox says, except for what depends on where it runs."""
    with zipfile.ZipFile(BytesIO(sandbox.snapshot_sync())) as archive:
        state = json.loads(archive.read("snapshot.json"))["state"]
    for webhook in state.get("webhooks", ()):
        for name in ("headers", "ticket", "number"):
            webhook.pop(name, None)
    return dict(state)


def list_files(folder: Path) -> list[Path]:
    """Return the files in a folder."""
    return list(folder.iterdir())


@pytest.fixture
async def filled() -> AsyncIterator[Sandbox]:
    """Run a sandbox with a state."""
    async with Sandbox(clock=VirtualClock()) as sandbox:
        await fill(sandbox)
        yield sandbox


async def test_another_sandbox_continues_in_the_same_way(filled: Sandbox) -> None:
    """A restored sandbox has the same sessions, webhooks, faults and counts, and behaves equally from then on."""
    archive = await filled.snapshot()
    async with Sandbox(clock=VirtualClock(datetime(2030, 1, 1, tzinfo=UTC))) as other:
        other.webhook_urls = dict.fromkeys(WebhookKind, NOWHERE)
        await other.restore(archive)
        assert await to_thread.run_sync(describe, filled) == await to_thread.run_sync(describe, other)
        assert filled.faults == other.faults
        assert filled.chaos == other.chaos

        for sandbox in (filled, other):
            sandbox.release_webhooks()
            sandbox.advance(8 * 24 * 3600)
            await sandbox.wait_idle()
        assert [session.status for session in filled.sessions] == [session.status for session in other.sessions]
        assert [(webhook.kind, webhook.state, webhook.attempt_count) for webhook in filled.webhooks] == [
            (webhook.kind, webhook.state, webhook.attempt_count) for webhook in other.webhooks
        ]


async def test_files_are_part_of_it_and_old_ones_are_removed(filled: Sandbox, tmp_path: Path) -> None:
    """The files have the same content and new names, and those of the replaced state are deleted."""
    archive = await filled.snapshot()
    async with Sandbox(clock=VirtualClock(), media_folder=tmp_path) as other:
        async with VeriffClient.from_env(other.environ) as veriff:
            await (await veriff.create_session()).upload(Media(JPEG, "document-front"))
        await other.restore(archive)
        await other.wait_idle()
        other.chaos = None
        other.clear_faults()
        media = other.sessions[0].media
        assert sorted(each.path for each in media) == sorted(await to_thread.run_sync(list_files, tmp_path))
        async with VeriffClient.from_env(other.environ) as veriff:
            files = [await veriff.download_media(each.id, tmp_path.parent / each.id) for each in media]
        assert [JPEG, PDF] == await to_thread.run_sync(lambda: [Path(file.path).read_bytes() for file in files])
        await other.restore(archive)
        await other.wait_idle()
        assert len(media) == len(await to_thread.run_sync(list_files, tmp_path))


async def test_a_sandbox_returns_to_its_own_snapshot() -> None:
    """A test can return to a state as often as it likes, and clients see it over HTTP."""
    async with Sandbox() as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session()
        start = await sandbox.snapshot()
        for status in ("approved", "declined"):
            sandbox.decide(session.id, status)
            decision = await session.decision()
            assert decision is not None
            assert status == decision.status
            await sandbox.restore(start)
            assert await session.decision() is None


async def test_waiting_webhooks_are_signed_for_their_new_sandbox(filled: Sandbox) -> None:
    """A webhook that waits is posted to the URL, and signed with the credentials, of the sandbox that restored it."""
    archive = await filled.snapshot()
    bodies: list[dict[bytes, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  ASGI
        bodies.append(dict(scope["headers"]))
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async with Sandbox(clock=VirtualClock(), webhook_app=app, webhook_url="http://app/new") as other:
        await other.restore(archive)
        other.release_webhooks()
        await other.wait_idle()
        assert {other.credentials.api_key.encode()} == {headers[b"x-auth-client"] for headers in bodies}
        assert {"http://app/new"} == {delivery.url for delivery in other.deliveries}


async def test_the_clock_must_be_of_the_same_kind(filled: Sandbox, sandbox: Sandbox) -> None:
    """A virtual time cannot be restored on a real clock; a real one moves a virtual clock to its time."""
    archive = await filled.snapshot()
    with pytest.raises(InvalidArgumentError, match="clock=VirtualClock"):
        await sandbox.restore(archive)
    assert () == sandbox.sessions
    before = datetime.now(UTC)
    real = await sandbox.snapshot()
    clock = VirtualClock()
    async with Sandbox(clock=clock) as other:
        await other.restore(real)
    assert clock.now() >= before


async def test_it_needs_a_running_sandbox(sandbox: Sandbox) -> None:
    """A sandbox that does not run has no folder for files, so it restores nothing."""
    archive = await sandbox.snapshot()
    with pytest.raises(ConfigurationError, match="not running"):
        await Sandbox().restore(archive)


async def test_a_wait_ends_when_its_session_is_gone(sandbox: Sandbox) -> None:
    """A test that waits for a client gets an error, because no client can ask any more."""
    empty = await sandbox.snapshot()
    async with VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session()
    poll = sandbox._service.expect_poll(session.id)
    await sandbox.restore(empty)
    with pytest.raises(InvalidArgumentError, match="during the wait"):
        poll.result(0)


async def test_a_snapshot_can_be_a_file(filled: Sandbox, tmp_path: Path) -> None:
    """A path is accepted as well, and a missing file is named in the error."""
    file = tmp_path / "state.zip"
    await filled.restore(await filled.snapshot())
    with pytest.raises(ConfigurationError, match="No such file"):
        await filled.restore(file)
    with pytest.raises(InvalidArgumentError, match="snapshot"):
        await filled.restore(5)  # type: ignore[arg-type]


async def test_time_of_decisions_is_part_of_it() -> None:
    """A sandbox that decides by itself still does so from its snapshot."""
    async with Sandbox(clock=VirtualClock(), decide_after=5) as sandbox:
        snapshot = await sandbox.snapshot()
    async with Sandbox(clock=VirtualClock()) as sandbox:
        await sandbox.restore(snapshot)
        assert 5 == sandbox.rules.decide_after


async def test_a_picture_that_was_deleted_is_an_error_of_the_snapshot(filled: Sandbox) -> None:
    """A snapshot without a picture would be refused later, so none is made; the error names no path."""
    path = next(media.path for session in filled.sessions for media in session.media)
    await to_thread.run_sync(path.unlink)
    with pytest.raises(ConfigurationError, match=r"cannot be read .*: restore it in the media folder") as caught:
        await filled.snapshot()
    assert str(path) not in str(caught.value)


def rewrite(archive: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return an archive whose JSON is changed."""
    files = read(archive)
    document = json.loads(files["snapshot.json"])
    change(document)
    files["snapshot.json"] = json.dumps(document).encode()
    return pack(files)


def read(archive: bytes) -> dict[str, bytes]:
    """Return the members of an archive."""
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def pack(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive of members."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def _first(document: dict[str, Any]) -> dict[str, Any]:
    session = document["state"]["sessions"][0]
    assert isinstance(session, dict)
    return session


def _digest(archive: bytes) -> str:
    """Return the SHA-256 that names the first picture."""
    digest = _first(json.loads(read(archive)["snapshot.json"]))["attempts"][0]["media"][0]["sha256"]
    assert isinstance(digest, str)
    return digest


HOSTILE: Final[dict[str, Callable[[bytes], bytes]]] = {
    "not a ZIP": lambda _: b"{}",
    "empty": lambda _: b"",
    "cut": lambda archive: archive[: len(archive) // 2],
    "flipped byte": lambda archive: archive.replace(JPEG, JPEG[:-1] + b"X"),
    "no JSON": lambda archive: pack({name: body for name, body in read(archive).items() if "json" not in name}),
    "not JSON": lambda archive: pack({**read(archive), "snapshot.json": b"{"}),
    "list": lambda archive: pack({**read(archive), "snapshot.json": b"[]"}),
    "deep": lambda archive: pack({**read(archive), "snapshot.json": b"[" * 100_000}),
    "other version": lambda archive: rewrite(archive, lambda document: document.update(version=2)),
    "other format": lambda archive: rewrite(archive, lambda document: document.update(format="x")),
    "no state": lambda archive: rewrite(archive, lambda document: document.pop("state")),
    "unknown member": lambda archive: rewrite(archive, lambda document: document["state"].update(x=1)),
    "wrong type": lambda archive: rewrite(archive, lambda document: _first(document).update(vendor_data=5)),
    "boolean number": lambda archive: rewrite(archive, lambda document: _first(document).update(resubmissions=True)),
    "unknown status": lambda archive: rewrite(archive, lambda document: _first(document).update(status="x")),
    "number as status": lambda archive: rewrite(archive, lambda document: _first(document).update(status=5)),
    "list as an object": lambda archive: rewrite(archive, lambda document: _first(document).update(person=[])),
    "no list of attempts": lambda archive: rewrite(
        archive, lambda document: document["state"]["webhooks"][0].update(attempts={})
    ),
    "size of a file": lambda archive: rewrite(
        archive, lambda document: _first(document)["attempts"][0]["media"][0].update(size=1)
    ),
    "another digest": lambda archive: pack(
        {
            name.replace(_digest(archive), "0" * 64): body.replace(_digest(archive).encode(), b"0" * 64)
            for name, body in read(archive).items()
        }
    ),
    "naive time": lambda archive: rewrite(
        archive, lambda document: _first(document).update(created_at="2025-01-01T00:00:00")
    ),
    "last year": lambda archive: rewrite(
        archive, lambda document: _first(document).update(created_at="9999-12-31T23:59:59+00:00")
    ),
    "script as callback": lambda archive: rewrite(
        archive, lambda document: _first(document).update(callback="javascript:alert(1)")
    ),
    "no attempt": lambda archive: rewrite(archive, lambda document: _first(document).update(attempts=[])),
    "path as id": lambda archive: rewrite(archive, lambda document: _first(document).update(id="../../etc/passwd")),
    "path of a file": lambda archive: rewrite(
        archive, lambda document: _first(document)["attempts"][0]["media"][0].update(path="../x")
    ),
    "header in a type": lambda archive: rewrite(
        archive, lambda document: _first(document)["attempts"][0]["media"][0].update(mimetype="a/b\r\nX: y")
    ),
    "session twice": lambda archive: rewrite(
        archive, lambda document: document["state"]["sessions"].append(document["state"]["sessions"][0])
    ),
    "unknown session": lambda archive: rewrite(archive, lambda document: document["state"]["sessions"].pop()),
    "URL of a webhook": lambda archive: rewrite(
        archive, lambda document: document["state"]["webhooks"][0].update(url="file:///etc/passwd")
    ),
    "file outside": lambda archive: pack({**read(archive), "../../evil": b"x"}),
    "absolute file": lambda archive: pack({**read(archive), "/tmp/evil": b"x"}),  # noqa: S108  the attack
    "missing file": lambda archive: pack({name: body for name, body in read(archive).items() if "json" in name}),
    "longer file": lambda archive: pack(
        {name: body + (b"" if "json" in name else b"x") for name, body in read(archive).items()}
    ),
    "compressed file": lambda archive: pack(read(archive), zipfile.ZIP_DEFLATED),
    "bomb": lambda archive: pack({**read(archive), "snapshot.json": b" " * (2 * 2**20)}, zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_archives_are_refused(
    attack: str, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is refused with one sentence, leaves the state as it was, and leaves no file."""
    monkeypatch.setattr(_snapshot, "_MAX_JSON", 2**20)  # so that the bomb takes no time
    with Sandbox(clock=VirtualClock(), media_folder=tmp_path / "media") as sandbox:
        before = describe(sandbox)
        with pytest.raises(InvalidArgumentError, match="The snapshot ") as caught:
            sandbox.restore_sync(HOSTILE[attack](archive))
        assert "Ada" not in str(caught.value)
        assert before == describe(sandbox)
        assert [] == list((tmp_path / "media").iterdir())
        assert [tmp_path / "media"] == list(tmp_path.iterdir())


def test_json_of_too_many_values_is_not_parsed(archive: bytes) -> None:
    """An archive of some kilobytes can unpack to JSON that takes gigabytes of memory; it is refused before."""
    values = {**read(archive), "snapshot.json": b"[" + b"[]," * 8_000_000 + b"[]]"}
    with Sandbox() as sandbox, pytest.raises(InvalidArgumentError, match="16 million values"):
        sandbox.restore_sync(pack(values, zipfile.ZIP_DEFLATED))


@pytest.fixture(scope="module")
def archive() -> bytes:
    """Return a snapshot with everything in it."""
    import asyncio  # noqa: PLC0415  only here

    with Sandbox(clock=VirtualClock()) as sandbox:
        asyncio.run(fill(sandbox))
        return sandbox.snapshot_sync()


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_damaged_archives_are_refused_or_equal(archive: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """An archive with random changes is refused with the one error for it, or restores a state that can be saved."""
    damaged = bytearray(archive)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    sandbox = Sandbox(clock=VirtualClock())
    sandbox._service.media_folder = tmp_path
    try:
        sandbox.restore_sync(bytes(damaged))
    except InvalidArgumentError:
        assert [] == list(tmp_path.iterdir())
        return
    sandbox.snapshot_sync()
    for file in tmp_path.iterdir():
        file.unlink()


# The JSON of records.

IDS: Final = st.uuids().map(str)
TIMES: Final = st.datetimes(datetime(1971, 1, 1), datetime(2999, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001
TEXTS: Final = st.text(max_size=20)
VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXTS, children, max_size=3),
    max_leaves=5,
)
OBJECTS: Final = st.dictionaries(TEXTS, VALUES, max_size=3)
FILES: Final = st.builds(
    lambda media_id, content: StoredMedia(
        id=media_id,
        context="document-front",
        mimetype="image/jpeg",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        path=Path(media_id),
    ),
    IDS,
    st.binary(max_size=10),
)
LABELS: Final = strategy_for(UserDefinedStatus)
ATTEMPTS: Final = st.builds(
    AttemptRecord,
    IDS,
    TIMES,
    st.sampled_from(Status),
    st.none() | TIMES,
    media=st.lists(FILES, max_size=2),
    is_on_page=st.booleans(),
    labels=st.lists(LABELS, max_size=2),
)
SESSIONS: Final = st.builds(
    Session,
    IDS,
    TEXTS,
    TIMES,
    st.none() | TEXTS,
    st.none() | TEXTS,
    OBJECTS,
    OBJECTS,
    st.lists(ATTEMPTS, min_size=1, max_size=2),
    decision=st.none() | OBJECTS,
    posted=st.dictionaries(st.sampled_from(WebhookKind), OBJECTS, max_size=2),
    asked_at=st.none() | st.tuples(IDS, st.sampled_from(Status)),
    screening=st.none() | strategy_for(WatchlistScreening),
    matches=st.lists(strategy_for(PepSanctionMatch), max_size=1).map(tuple),
    certificates=st.lists(
        st.builds(IssuedCertificate, id=IDS, created_at=TIMES, documents=st.dictionaries(IDS, FILES, max_size=1)),
        max_size=1,
    ),
    registries=st.dictionaries(st.just(IneResult), strategy_for(IneResult), max_size=1),
)
SPECS: Final = st.builds(
    DecisionSpec,
    status=st.sampled_from(Status),
    reason=st.none() | TEXTS,
    person=OBJECTS,
    additional_verified_data=strategy_for(AdditionalVerifiedData),
    risk_labels=st.lists(strategy_for(RiskLabel), max_size=1).map(tuple),
)
DUES: Final = st.builds(
    Due,
    TIMES,
    IDS,
    st.none() | IDS,
    st.none() | SPECS,
    st.none() | st.builds(Post, IDS, st.sampled_from(WebhookKind), OBJECTS),
)


@given(SESSIONS)
def test_sessions_survive_their_json(session: Session) -> None:
    """Reading what was written gives an equal session, with everything in it."""
    assert session == load_record(Session, dump_record(session))


@given(DUES)
def test_events_survive_their_json(due: Due) -> None:
    """Reading what was written gives an equal event, with its decision or webhook."""
    assert due == load_record(Due, dump_record(due))
