"""`veriff-async inbox`: find, show, export, replay and repair what an inbox has recorded."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cli.conftest import SECONDS
from tests.conditions import needs_posix
from veriff_async import ConfigurationError, Credentials, parse_webhook
from veriff_async._protocol.webhook import event_from
from veriff_async.cli.inbox.export_file import ExportFile
from veriff_async.encryption import KeyRing
from veriff_async.inbox import (
    DeliveryOutcome,
    DeliveryStatus,
    PostgresInbox,
    RedisInbox,
    SqliteInbox,
    load_event,
)
from veriff_async.testing import decision_event, session_event

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from click.testing import Result

    from tests.cli.conftest import Receiver
    from tests.postgres_server import PostgresDatabase
    from tests.servers import RedisServer
    from veriff_async import WebhookEvent
    from veriff_async.inbox import DeliveryInbox

    Invoke = Callable[..., Result]

VARIABLES: Final = {"VERIFF_API_KEY": "6f1b1b52-8d2c-4e0e-9b6f-0a5a3f0e8a11", "VERIFF_SHARED_SECRET": "secret"}
CREDENTIALS: Final = Credentials.from_env(VARIABLES)
ADA: Final = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"
BEN: Final = "e1c83e32-e229-4b70-b326-6ab5ce5e2e1c"
CAT: Final = "2ccf258a-ae6e-434d-a5e5-bc0862a87302"
CANARY: Final = "Lovelace-canary"
REPLAY: Final = ("inbox", "replay", "--all", "--rate", "1000", "--to")
ERROR: Final = "ConnectionRefusedError at billing.py:31"


def approved(session_id: str) -> WebhookEvent:
    """Return a decision with data of a person."""
    return event_from(
        {
            "status": "success",
            "verification": {
                "id": session_id,
                "attemptId": "first",
                "code": 9001,
                "status": "approved",
                "vendorData": f"vendor-{session_id[:4]}",
                "person": {"lastName": CANARY},
            },
        }
    )


async def fill(inbox: DeliveryInbox) -> None:
    """Record three sessions: one with a dead event, one that is handled, and one without handlers."""
    await inbox.record(session_event(ADA, "submitted"), deliver=True)
    (delivery,) = await inbox.lease(1, seconds=60)
    await inbox.settle(delivery, DeliveryOutcome(status=DeliveryStatus.DEAD, error=ERROR))
    await inbox.record(session_event(BEN, "submitted"), deliver=True)
    await inbox.record(decision_event(BEN, "declined"), deliver=True)
    for _ in range(2):
        (delivery,) = await inbox.lease(1, seconds=60)
        await inbox.settle(delivery, DeliveryOutcome(status=DeliveryStatus.HANDLED))
    await inbox.record(approved(CAT))


def use(work: Callable[[SqliteInbox], Coroutine[Any, Any, Any]], path: Path) -> Any:  # noqa: ANN401
    """Use the inbox of a test."""

    async def run() -> object:
        async with SqliteInbox(path) as inbox:
            return await work(inbox)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the file of an inbox, which is made once."""
    path = tmp_path_factory.mktemp("inbox") / "inbox.db"
    use(fill, path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, filled: bytes) -> Path:
    """Return the path of an inbox of this test."""
    path = tmp_path / "inbox.db"
    path.write_bytes(filled)
    return path


def lines(result: Result) -> list[list[str]]:
    """Return the cells of the lines on standard output."""
    assert 0 == result.exit_code, result.output
    return [line.split("\t") for line in result.stdout.splitlines()]


def documents(result: Result) -> list[dict[str, Any]]:
    """Return the JSON objects in the lines on standard output."""
    assert 0 == result.exit_code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_list_shows_the_latest_session_first(invoke: Invoke, path: Path) -> None:
    """A pipe gets id, status and counts; JSON has the same; neither has personal data."""
    result = invoke("inbox", "list", "--inbox", str(path))
    assert [[CAT, "approved", "1", "0", "0"], [BEN, "declined", "2", "0", "0"], [ADA, "submitted", "1", "0", "1"]] == [
        cells[:5] for cells in lines(result)
    ]
    found = documents(invoke("inbox", "list", "--json", VERIFF_INBOX=str(path)))
    assert [CAT, BEN, ADA] == [each["session_id"] for each in found]
    assert {"status": "submitted", "events": 1, "queued": 0, "dead": 1}.items() <= found[2].items()
    assert CANARY not in result.output + json.dumps(found)


def test_times_that_no_calendar_has_are_shown(
    invoke: Invoke, invoke_in_terminal: Callable[..., tuple[int, str]], path: Path
) -> None:
    """A time that another program has damaged hides no session and no dead letter."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE session SET touched = 9e999")
        db.execute("UPDATE event SET recorded = -1e300")

    for command in (("list",), ("dead", "list")):
        arguments = ("inbox", *command, "--inbox", str(path))
        assert lines(invoke(*arguments))
        assert lines(invoke(*arguments, "--json"))
        code, shown = invoke_in_terminal(*arguments)
        assert (0, True) == (code, ADA in shown or CAT in shown), shown


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--session", BEN), [BEN]),
        (("--status", "approved"), [CAT]),
        (("--vendor-data", "vendor-2ccf"), [CAT]),
        (("--vendor-data", "vendor"), []),
        (("--end-user-id", "another"), []),
        (("--delivery", "dead"), [ADA]),
        (("--since", "1h"), [CAT, BEN, ADA]),
        (("--since", "2026-01-01T00:00:00+01:00", "--status", "declined"), [BEN]),
        (("--until", "2020-01-01"), []),
        (("--limit", "1"), [CAT]),
    ],
)
def test_list_finds_sessions(invoke: Invoke, path: Path, options: Sequence[str], found: list[str]) -> None:
    """All options narrow the search; with a limit, standard error says that there are more."""
    result = invoke("inbox", "list", "--inbox", str(path), *options)

    assert found == [cells[0] for cells in lines(result)]
    assert ("There are more than 1 session:" in result.stderr) == ("--limit" in options)
    assert ("No session matches." in result.stderr) == (not found)


def test_show_has_state_and_events_without_personal_data(invoke: Invoke, path: Path) -> None:
    """A session is shown with its events and their handlers; the webhooks themselves with --raw only."""
    result = invoke("inbox", "show", ADA, "--inbox", str(path))
    assert ["event", "submitted 7002", "dead, attempt 1"] == lines(result)[-2][1:]
    assert f"Event 1: {ERROR}" in result.stdout

    handled = lines(invoke("inbox", "show", BEN, "--inbox", str(path)))
    assert ["handled", "handled"] == [cells[-1] for cells in handled[-2:]]

    plain = invoke("inbox", "show", CAT, "--inbox", str(path), "--json")
    document = json.loads(plain.stdout)
    assert {"status": "approved", "code": 9001} == document["decision"]
    assert CANARY not in plain.output + invoke("inbox", "show", CAT, "--inbox", str(path)).output
    for options in (("--raw",), ("--raw", "--json")):
        assert CANARY in invoke("inbox", "show", CAT, "--inbox", str(path), *options).stdout


def test_show_of_an_unknown_session_fails(invoke: Invoke, path: Path) -> None:
    """The exit code is 1, and the error does not repeat the argument, which may be anything."""
    result = invoke("inbox", "show", CANARY, "--inbox", str(path))

    assert (1, "") == (result.exit_code, result.stdout)
    assert "The inbox has no event of this session" in result.stderr
    assert CANARY not in result.stderr


def test_stats_count_sessions_and_events(invoke: Invoke, path: Path) -> None:
    """People get the counters with units, and programs get all of them."""
    assert "  dead: 1" in invoke("inbox", "stats", "--inbox", str(path)).stdout
    document = json.loads(invoke("inbox", "stats", "--inbox", str(path), "--json").stdout)
    assert {"sessions": 3, "events": 4, "queued": 0, "dead": 1}.items() <= document.items()


def test_export_writes_json_lines(invoke: Invoke, path: Path, tmp_path: Path) -> None:
    """Standard output and a file get the same lines, which are read back as the same events."""
    printed = documents(invoke("inbox", "export", "--inbox", str(path)))
    file = tmp_path / "events.jsonl"
    saved = invoke("inbox", "export", str(file), "--inbox", str(path), "--json")

    assert {"events": 4} == json.loads(saved.stdout)
    assert printed == [json.loads(line) for line in file.read_text().splitlines()]
    events = [load_event(each["kind"], json.dumps(each["event"]).encode()) for each in printed]
    assert [each["dedup_key"] for each in printed] == [event.dedup_key for event in events]
    assert [CAT, BEN, BEN, ADA] == [event.session_id for event in events]
    if sys.platform != "win32":
        assert 0o600 == stat.S_IMODE(file.stat().st_mode)


def test_export_replaces_a_file_only_if_asked_to(invoke: Invoke, path: Path, tmp_path: Path) -> None:
    """Without --force an existing file stays, and an incomplete file never gets the name."""
    file = tmp_path / "events.jsonl"
    file.write_text("precious")
    (tmp_path / "events.jsonl.part").write_text("left behind")

    assert 2 == invoke("inbox", "export", str(file), "--inbox", str(path)).exit_code
    assert "precious" == file.read_text()
    assert 0 == invoke("inbox", "export", str(file), "--inbox", str(path), "--force", "--session", CAT).exit_code
    assert 1 == len(file.read_text().splitlines())
    missing = invoke("inbox", "export", str(tmp_path / "no" / "file"), "--inbox", str(path))
    assert (1, True) == (missing.exit_code, "FILE cannot be written" in missing.stderr)
    assert {"inbox.db", "events.jsonl"} == {each.name for each in tmp_path.iterdir() if each.is_file()}


def test_large_export_is_written_in_pieces(invoke: Invoke, path: Path, tmp_path: Path) -> None:
    """More than fits into one piece is complete in the file, and people get the number of events."""
    members = {"id": CAT, "status": "approved", "code": 9001, "attemptId": "second", "comment": "x" * 300_000}
    large = event_from({"status": "success", "verification": members})
    use(lambda inbox: inbox.record(large), path)
    file = tmp_path / "events.jsonl"

    result = invoke("inbox", "export", str(file), "--inbox", str(path))

    assert (0, "", "5 events written.") == (result.exit_code, result.stdout, result.stderr.splitlines()[-1])
    assert 5 == len(list(map(json.loads, file.read_text().splitlines())))


def test_export_ends_with_the_reader_of_a_pipe(
    path: Path, invoke_with_broken_output: Callable[..., tuple[int, str]]
) -> None:
    """A reader that has enough, like head, is no error; a full disk is."""
    command, full = ("inbox", "export", "--inbox", str(path)), OSError(errno.ENOSPC, "No space left on device")

    assert (0, "") == invoke_with_broken_output(BrokenPipeError(), *command)
    code, errors = invoke_with_broken_output(full, *command)

    assert (1, True) == (code, "No space left" in errors)


@needs_posix
def test_export_that_fails_leaves_no_part(tmp_path: Path) -> None:
    """A full disk, a folder that has taken the name, and any other error delete the incomplete file."""
    import resource  # noqa: PLC0415  missing on Windows

    def fill_disk(target: ExportFile) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            target.write_lines(["x" * 10_000])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def take_name(target: ExportFile) -> None:
        file.mkdir()
        target.finish()

    def fail(_target: ExportFile) -> None:
        msg = "a defect"
        raise KeyError(msg)

    file = tmp_path / "events.jsonl"
    for work, error, words in (
        (fill_disk, ConfigurationError, "FILE cannot be written"),
        (fail, KeyError, "a defect"),
        (take_name, ConfigurationError, "FILE cannot be written"),
    ):
        with pytest.raises(error, match=words), ExportFile(file) as target:
            work(target)
        assert [] == list(tmp_path.glob("*.part"))


def test_dead_events_are_listed_and_retried(invoke: Invoke, path: Path) -> None:
    """A dead event is shown with its error, and queued again; then none is dead."""
    inbox = ("--inbox", str(path))
    assert [[ADA, "event", "1", ERROR]] == [
        [*cells[:3], cells[4]] for cells in lines(invoke("inbox", "dead", "list", *inbox))
    ]
    (document,) = documents(invoke("inbox", "dead", "list", *inbox, "--json"))
    assert (ADA, "dead", 1, ERROR) == tuple(document[each] for each in ("session_id", "delivery", "attempts", "error"))

    counts = [
        json.loads(invoke("inbox", "dead", "retry", *inbox, "--json", *options).stdout)
        for options in (("--error", "KeyError"), ("--all", "--dry-run"), ("--session", ADA), ("--all",))
    ]

    assert [{"queued": 0}, {"would_queue": 1}, {"queued": 1}, {"queued": 0}] == counts
    assert "No event is dead." in invoke("inbox", "dead", "list", *inbox).stderr
    assert 1 == use(lambda inbox: inbox.statistics(), path).queued


def test_dead_list_says_that_there_are_more(invoke: Invoke, path: Path) -> None:
    """A list that is cut names the options that narrow it."""

    async def kill_more(inbox: SqliteInbox) -> None:
        await inbox.record(session_event(CAT, "submitted"), deliver=True)
        (delivery,) = await inbox.lease(1, seconds=60)
        await inbox.settle(delivery, DeliveryOutcome(status=DeliveryStatus.DEAD, error="KeyError"))

    use(kill_more, path)
    result = invoke("inbox", "dead", "list", "--inbox", str(path), "--limit", "1")
    assert [CAT] == [cells[0] for cells in lines(result)]
    assert "There are more than 1 dead event:" in result.stderr
    found = invoke("inbox", "dead", "list", "--inbox", str(path), "--error", "Refused")
    assert [ADA] == [cells[0] for cells in lines(found)]


def test_replay_posts_what_a_receiver_accepts(invoke: Invoke, path: Path, receiver: Receiver) -> None:
    """The requests are webhooks with a valid signature: the same events, in the order of each session."""
    result = invoke(
        "inbox", "replay", "--all", "--to", receiver.url, "--rate", "1000", VERIFF_INBOX=str(path), **VARIABLES
    )

    assert (0, "4 of 4 events accepted.\n") == (result.exit_code, result.stdout)
    events = [parse_webhook(headers, body, CREDENTIALS) for headers, body in receiver.received]
    assert [(CAT, "decision"), (BEN, "event"), (BEN, "decision"), (ADA, "event")] == [
        (event.session_id, event.kind) for event in events
    ]


def test_replay_resumes_with_the_sessions_that_are_left(
    invoke: Invoke, path: Path, receiver: Receiver, tmp_path: Path
) -> None:
    """A session that was not accepted is sent again by the next run, and the finished ones are not."""
    file = tmp_path / "done.txt"
    command = (*REPLAY, receiver.url, "--resume", str(file), "--json")
    receiver.answer = lambda _headers, body: 401 if BEN.encode() in body else 200
    first = invoke(*command, VERIFF_INBOX=str(path), **VARIABLES)
    receiver.answer = lambda _headers, _body: 200
    count = len(receiver.received)
    second = invoke(*command, VERIFF_INBOX=str(path), **VARIABLES)

    assert 1 == first.exit_code
    document = json.loads(first.stdout)
    assert (3, 2) == (document["sent"], document["accepted"])
    assert [(BEN, 401)] == [(each["session_id"], each["http_status"]) for each in document["not_accepted"]]
    assert {"sent": 2, "accepted": 2, "not_accepted": []} == json.loads(second.stdout)
    assert 2 == len(receiver.received) - count
    other = invoke(*REPLAY, "http://127.0.0.1:9/", "--resume", str(file), VERIFF_INBOX=str(path), **VARIABLES)
    assert (1, True) == (other.exit_code, "belongs to a replay to another address" in other.stderr)


def test_the_file_of_resume_survives_a_crash(invoke: Invoke, path: Path, receiver: Receiver, tmp_path: Path) -> None:
    """Half a line that a killed run has left names no session, and does not spoil the next line."""
    file = tmp_path / "done.txt"
    command = (*REPLAY, receiver.url, "--resume", str(file), "--json")
    assert 0 == invoke(*command, VERIFF_INBOX=str(path), **VARIABLES).exit_code
    file.write_text(file.read_text()[:-12])  # half of the last id

    documents = [json.loads(invoke(*command, VERIFF_INBOX=str(path), **VARIABLES).stdout) for _ in range(2)]

    assert [1, 0] == [document["sent"] for document in documents]


@needs_posix
def test_pipes_and_devices_are_refused_as_files(invoke: Invoke, path: Path, tmp_path: Path) -> None:
    """An export would replace the pipe by a file, and a device may have no end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    export = invoke("inbox", "export", str(pipe), "--inbox", str(path), "--force")
    assert (1, True) == (export.exit_code, "FILE is a pipe or a device" in export.stderr)
    assert pipe.is_fifo()
    for file in (pipe, "/dev/zero"):
        replay = invoke(*REPLAY, "http://127.0.0.1:9/", "--resume", str(file), VERIFF_INBOX=str(path), **VARIABLES)
        assert (1, True) == (replay.exit_code, "--resume is a pipe or a device" in replay.stderr)


@needs_posix
def test_two_exports_to_one_file_do_not_mix(tmp_path: Path) -> None:
    """The second export has taken the name of the incomplete file: the first one must not finish it."""
    file = tmp_path / "events.jsonl"
    with ExportFile(file) as first, ExportFile(file) as second:
        first.write_lines(["first"])
        second.write_lines(["half of"])
        with pytest.raises(ConfigurationError, match="Another export"):
            first.finish()
        second.write_lines(["the second"])
        second.finish()
    assert "half of\nthe second\n" == file.read_text()
    assert [file] == [each for each in tmp_path.iterdir() if each.is_file()]


@needs_posix
@pytest.mark.parametrize("options", [(), ("--resume", "done.txt")])
def test_replay_ends_on_ctrl_c(
    invoke: Invoke, path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, options: Sequence[str]
) -> None:
    """An interrupted replay ends at once, and says how it continues."""
    monkeypatch.chdir(path.parent)
    may_end = Event()

    def interrupt(_headers: dict[str, str], body: bytes) -> int:
        if BEN.encode() in body:
            os.kill(os.getpid(), signal.SIGINT)  # asyncio's handler is installed: a request is running
            may_end.wait(SECONDS)
        return 200

    receiver.answer = interrupt
    result = invoke(*REPLAY, receiver.url, *options, VERIFF_INBOX=str(path), **VARIABLES)
    may_end.set()

    assert 130 == result.exit_code
    assert "Interrupted.\nContinue with the same command" in result.stderr
    assert ("with --resume FILE it would skip" in result.stderr) == (not options)
    if options:
        assert [CAT] == [json.loads(line) for line in Path("done.txt").read_text().splitlines()[1:]]


def test_replay_stops_when_nothing_is_accepted(invoke: Invoke, path: Path, receiver: Receiver) -> None:
    """After ten events in a row that were not accepted, the rest is not sent."""

    async def record_more(inbox: SqliteInbox) -> None:
        for number in range(12):
            await inbox.record(session_event(f"session-{number}", "submitted"))

    use(record_more, path)
    receiver.answer = lambda _headers, _body: 404
    result = invoke(
        "inbox", "replay", "--all", "--to", receiver.url, "--rate", "1000", VERIFF_INBOX=str(path), **VARIABLES
    )

    assert (1, 10) == (result.exit_code, len(receiver.received))
    assert "session-11  event: HTTP 404\n" in result.stdout
    assert "Stopped after 10 in a row." in result.stderr


def test_replay_through_handlers_queues_events(invoke: Invoke, path: Path) -> None:
    """The events are queued in the inbox, where the workers of the application find them; a dry run only counts."""
    command = ("inbox", "replay", "--through-handlers", "--session", BEN, "--inbox", str(path))
    assert {"sessions": 1, "events": 2} == json.loads(invoke(*command, "--dry-run", "--json").stdout)
    assert 0 == use(lambda inbox: inbox.statistics(), path).queued

    assert "2 events queued for the handlers" in invoke(*command).stdout

    assert 2 == use(lambda inbox: inbox.statistics(), path).queued


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list", "--inbox", "missing.db"), "The inbox does not exist"),
        (("list", "--inbox", "empty.db"), "The inbox does not exist"),
        (("list",), "Give the inbox with --inbox, or set VERIFF_INBOX"),
        (("list", "--inbox", "inbox.db", "--prefix", "x"), "--prefix is for Redis only"),
        (("list", "--inbox", "inbox.db", "--since", "yesterday"), "give a time such as 2026-11-29T12:00"),
        (("list", "--inbox", "inbox.db", "--delivery", "lost"), "'lost' is not one of"),
        (("stats", "--inbox", "redis://me:secret@127.0.0.1:9/0"), "set VERIFF_INBOX instead"),
        (("stats", "--inbox", "postgresql://127.0.0.1:9/a?password=secret"), "set VERIFF_INBOX instead"),
        (("dead", "retry", "--inbox", "inbox.db"), "Give --session or --error, or --all"),
        (("dead", "retry", "--inbox", "inbox.db", "--all", "--session", "x"), "Give --session or --error, or --all"),
        (("replay", "--inbox", "inbox.db", "--all"), "Give either --to"),
        (("replay", "--inbox", "inbox.db", "--through-handlers"), "Choose sessions"),
        (("replay", "--inbox", "inbox.db", "--through-handlers", "--all", "--since", "1d"), "Choose sessions"),
        (("replay", "--inbox", "inbox.db", "--through-handlers", "--all", "--resume", "f"), "--resume is for --to"),
        (("replay", "--inbox", "inbox.db", "--all", "--to", "nowhere"), "this is not a URL"),
        (("stats", "--inbox", "x" * 5000), "The inbox does not exist"),
        (("list", "--inbox", "inbox.db", "--since", "yesterday"), "give a time such as"),
    ],
)
def test_wrong_usage_is_explained(
    invoke: Invoke, path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], words: str
) -> None:
    """The exit code is 2, one sentence says what to give, and no file is created."""
    monkeypatch.chdir(path.parent)
    Path("empty.db").touch()
    before = set(os.listdir())  # noqa: PTH208  names alone

    result = invoke("inbox", *arguments)

    assert (2, "") == (result.exit_code, result.stdout)
    assert words in " ".join(result.stderr.split())
    assert "secret" not in result.stderr
    assert before == set(os.listdir())  # noqa: PTH208
    assert 0 == Path("empty.db").stat().st_size


def test_a_file_of_another_program_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    """The error of the library is one sentence, without a traceback, and the file stays as it is."""
    file = tmp_path / "text.db"
    file.write_text("not an inbox, and never was one" * 40)

    result = invoke("inbox", "stats", "--inbox", str(file))

    assert (1, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith("Error: ")
    assert file.read_text().startswith("not an inbox")


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_url_with_unmatched_brackets_is_refused(invoke: Invoke, scheme: str) -> None:
    """The store refuses the URL in one sentence, without a traceback."""
    result = invoke("inbox", "stats", "--inbox", f"{scheme}://[::1")

    assert (1, "", 1) == (result.exit_code, result.stdout, result.stderr.count("\n"))


def test_dry_run_of_replay_counts_and_queueing_is_a_document(invoke: Invoke, path: Path) -> None:
    """A dry run sends and queues nothing; --through-handlers prints the number of events, for programs as JSON."""
    command = ("inbox", "replay", "--all", "--through-handlers", "--inbox", str(path))

    counted = invoke(*command, "--dry-run").stdout
    assert 0 == use(lambda inbox: inbox.statistics(), path).queued
    queued = json.loads(invoke(*command, "--json").stdout)

    assert "4 events of 3 sessions would be sent.\n" == counted
    assert {"queued": 4} == queued
    assert 4 == use(lambda inbox: inbox.statistics(), path).queued


def test_binary_file_of_resume_is_refused(invoke: Invoke, path: Path, receiver: Receiver, tmp_path: Path) -> None:
    """A file that is no text is refused before anything is sent, and stays as it is."""
    file = tmp_path / "done.txt"
    file.write_bytes(b"\xff\xfe\x00")

    result = invoke(*REPLAY, receiver.url, "--resume", str(file), VERIFF_INBOX=str(path), **VARIABLES)

    assert (1, "") == (result.exit_code, result.stdout)
    assert "--resume cannot be used (it is no text)" in result.stderr
    assert ([], b"\xff\xfe\x00") == (receiver.received, file.read_bytes())


def test_replay_needs_credentials(invoke: Invoke, path: Path) -> None:
    """Without them nothing is sent, and the error names the variable."""
    result = invoke("inbox", "replay", "--all", "--to", "http://127.0.0.1:9/", VERIFF_INBOX=str(path))
    assert (1, True) == (result.exit_code, "VERIFF_API_KEY is not set" in result.stderr)


def test_replay_over_plain_http_to_another_machine_warns(invoke: Invoke, path: Path) -> None:
    """The bodies contain personal data, so http outside of this machine is worth a warning."""
    command = (*REPLAY[:2], "--session", "nothing", "--inbox", str(path), "--to")
    assert "http sends them unencrypted" in invoke(*command, "http://shop.example/hook", **VARIABLES).stderr
    assert "unencrypted" not in invoke(*command, "https://shop.example/hook", **VARIABLES).stderr


def test_redis(invoke: Invoke, single_redis_server: RedisServer) -> None:
    """An inbox in Redis is found by its URL and its prefix."""

    async def record() -> None:
        async with RedisInbox(single_redis_server.url, prefix="{commands}") as inbox:
            await fill(inbox)

    asyncio.run(record())
    inbox = ("--inbox", single_redis_server.url, "--prefix", "{commands}")
    assert [CAT, BEN, ADA] == [cells[0] for cells in lines(invoke("inbox", "list", *inbox))]
    assert "1 dead event queued again." in invoke("inbox", "dead", "retry", "--all", *inbox).stdout


def test_postgresql(invoke: Invoke, postgres: PostgresDatabase) -> None:
    """An encrypted inbox in PostgreSQL is found by its URL; a database without its tables gets none."""
    key = KeyRing.generate_key()
    variables = {"VERIFF_INBOX": postgres.url, "VERIFF_STORE_KEYS": key}
    empty = invoke("inbox", "list", **variables)
    assert (1, "", True) == (empty.exit_code, empty.stdout, empty.stderr.startswith("Error: "))

    async def record() -> None:
        async with PostgresInbox(postgres.url, encryption=KeyRing([key])) as inbox:
            await fill(inbox)

    asyncio.run(record())
    assert [CAT, BEN, ADA] == [cells[0] for cells in lines(invoke("inbox", "list", **variables))]
    assert ERROR in invoke("inbox", "show", ADA, **variables).stdout
    assert "1 dead event queued again." in invoke("inbox", "dead", "retry", "--all", **variables).stdout


def test_a_password_in_the_variable_is_used(invoke: Invoke) -> None:
    """Only arguments are visible to others; the error of the server contains no password."""
    url = "redis://me:secret@127.0.0.1:9/0"
    for command in (("stats",), ("dead", "list")):
        result = invoke("inbox", *command, VERIFF_INBOX=url)
        assert (1, True) == (result.exit_code, result.stderr.startswith("Error: "))
        assert "secret" not in result.output
    result = invoke("retention", "overdue", VERIFF_INBOX=url)
    assert "set VERIFF_INBOX instead" not in result.stderr


@needs_posix
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_ids_stay_whole_on_terminals(
    invoke_in_terminal: Callable[..., tuple[int, str]], path: Path, columns: int
) -> None:
    """Tables fit, and ids of sessions stay whole, so that they can be copied."""
    for arguments in (("dead", "list"), ("list",), ("show", ADA), ("stats",)):
        code, written = invoke_in_terminal("inbox", *arguments, columns=columns, VERIFF_INBOX=str(path))
        assert 0 == code
        assert all(len(line) <= columns for line in written.split("\n"))
        assert ADA in written or "list" not in arguments
        if (arguments, columns) == (("dead", "list"), 80):
            assert f"│ {ADA} │ event │ 1 " in written
            assert f"Error 1 (1 event): {ERROR}" in written
        if (arguments, columns) == (("list",), 40):  # too narrow for a header
            assert "submitted  dead 1" in " ".join(written.split("\n  "))


def test_the_commands_keep_what_the_application_keeps(invoke: Invoke, path: Path) -> None:
    """A command deletes nothing, however old: the application may keep it for longer than the default."""
    file = path.with_name("old.db")

    async def run() -> None:
        async with SqliteInbox(file, now=lambda: 1_600_000_000.0) as inbox:
            await inbox.record(session_event("old", "submitted"))

    asyncio.run(run())
    for _ in range(2):
        assert ["old"] == [cells[0] for cells in lines(invoke("inbox", "list", "--inbox", str(file)))]


def test_encrypted_inbox_needs_its_keys(invoke: Invoke, tmp_path: Path) -> None:
    """Commands take the keys from the environment; without them no search says that it found nothing."""
    path, key = tmp_path / "encrypted.db", KeyRing.generate_key()

    async def record() -> None:
        async with SqliteInbox(path, encryption=KeyRing([key])) as inbox:
            await inbox.record(approved(CAT))

    asyncio.run(record())
    search = ("inbox", "list", "--inbox", str(path), "--vendor-data", "vendor-2ccf")

    assert [CAT] == [cells[0] for cells in lines(invoke(*search, VERIFF_STORE_KEYS=key))]
    assert CANARY in invoke("inbox", "export", "--inbox", str(path), VERIFF_STORE_KEYS=key).stdout
    missing = invoke(*search)
    assert (1, "") == (missing.exit_code, missing.stdout)
    assert "cannot be decrypted" in missing.stderr
