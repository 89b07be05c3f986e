"""`veriff-async batch`, as separate processes, against a sandbox that counts its sessions."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import pytest
from anyio import to_thread
from attrs import evolve

from tests.conditions import needs_posix
from veriff_async import ConfigurationError, Credentials, Status, VeriffClient
from veriff_async.batch import BatchProgress, InvalidRow, JobRecord, JobState, MediaRecord, MemoryJournal, SqliteJournal
from veriff_async.cli.batch.manifest import ManifestCheck, check_manifest, iter_jobs
from veriff_async.cli.batch.progress import ProgressDisplay, format_duration
from veriff_async.cli.batch.results import open_results
from veriff_async.cli.batch.saved_options import RunLimits, SavedOptions, load_options, read_limits, save_options
from veriff_async.inbox import SqliteInbox
from veriff_async.sandbox import Fault, Sandbox
from veriff_async.testing import decision_event

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from blockbuster import BlockBuster
    from click.testing import Result

    from veriff_async import WebhookEvent
    from veriff_async.sandbox import ReceivedRequest

    Start = Callable[..., subprocess.Popen[str]]
    RunInTerminal = Callable[..., tuple[int, str]]

PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(2000) + b"\xff\xd9"
SECRET: Final = "Zuckerkandl"
JOBS: Final = 8
SECONDS: Final = 50.0


class CountingSandbox:
    """A sandbox that can call a function at one of its requests and counts its sessions."""

    def __init__(self) -> None:
        """Create a sandbox that decides immediately."""
        self.sandbox = Sandbox(decide_after=0, on_request=self._on_request)
        self._remaining = 0
        self._method = ""
        self._callback: Callable[[], object] = int

    def call_after(self, count: int, method: str, callback: Callable[[], object]) -> None:
        """Call a function, in the sandbox's thread, after `count` more requests of a method."""
        self._remaining, self._method, self._callback = count, method, callback

    def _on_request(self, request: ReceivedRequest) -> None:
        self._remaining -= request.method == self._method
        if self._remaining == 0:
            self._method = ""
            self._callback()

    def count_sessions(self, *job_ids: str) -> Counter[tuple[str | None, str]]:
        """Count sessions by job and status."""
        matching = [session for session in self.sandbox.sessions if session.vendor_data in job_ids]
        return Counter((session.vendor_data, str(session.status)) for session in matching)


@pytest.fixture
def service() -> Iterator[CountingSandbox]:
    """Run a counting sandbox that ends with the test."""
    service = CountingSandbox()
    with service.sandbox:
        yield service


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory of the commands, which holds a picture."""
    (tmp_path / "front.jpg").write_bytes(PICTURE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_results(path: Path) -> list[dict[str, object]]:
    """Return the results in a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def wait_for_exit(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait until a process ends, and return its exit code and output."""
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


@needs_posix
def test_resume_continues_a_batch_after_ctrl_c_and_after_a_kill(
    folder: Path, service: CountingSandbox, start: Start, run_in_terminal: RunInTerminal
) -> None:
    """Ctrl-C prints the command to resume; it needs no other options, and each job is decided exactly once."""
    ids = [f"stopped {number}" for number in range(JOBS)]
    rows = [f"{job_id},front.jpg;front.jpg,Ada {SECRET}" for job_id in ids]
    (folder / "jobs.csv").write_text("\n".join(["id,document-front,first_name", *rows, f"{ids[0]},front.jpg,", ""]))
    (folder / "secret.env").write_text("\n".join(f"{name}={value}" for name, value in service.sandbox.environ.items()))
    (folder / "secret.env").chmod(0o600)

    def interrupt(process: int) -> None:
        service.call_after(2, "PATCH", lambda: os.kill(process, signal.SIGINT))

    words = "batch run jobs.csv --journal the.db --out results.jsonl --skip-bad --concurrency 1 --env-file secret.env"
    code, written = run_in_terminal(*words.split(), started=interrupt)

    assert (130, SECRET in written) == (code, False), written
    assert f"Line {JOBS + 2} (job {ids[0]}): The id was given on line 2 already" in written
    assert re.search(
        rf"\d of {JOBS} jobs.*\r\nrunning \d, waiting \d, decided \d, failed 0, unknown 0; 0\.\d\d MB", written
    )
    [command] = re.findall(r"To continue: (veriff-async batch resume .*?)\r?\n", written)
    with (folder / "results.jsonl").open("ab") as file:
        file.write(b'{"job_id":"torn by a cra')

    process = start(*shlex.split(command)[1:], "--json")
    service.call_after(2, "PATCH", process.kill)
    assert -signal.SIGKILL == wait_for_exit(process)[0]
    code, out, err = wait_for_exit(start(*shlex.split(command)[1:], "--json"))
    document, results = json.loads(out), read_results(folder / "results.jsonl")

    assert 0 == code
    assert [f"Line {JOBS + 2} (job {ids[0]})"] == [
        json.loads(line)["warning"].split(":")[0] for line in err.splitlines()
    ]
    assert [{"state": "decided", "detail": "approved", "jobs": JOBS}] == document["outcomes"]
    assert [JOBS + 2] == [row["line"] for row in document["invalid_rows"]]
    assert dict.fromkeys(ids, 1) == Counter(line["job_id"] for line in results)
    assert {("decided", "approved", None)} == {(line["state"], line["status"], line["error"]) for line in results}
    assert {(job_id, "approved"): 1 for job_id in ids} == service.count_sessions(*ids)
    held = {session.id: len(session.media) for session in service.sandbox.sessions if session.vendor_data in ids}
    assert {line["session_id"]: 2 for line in results} == held
    assert SECRET not in (folder / "results.jsonl").read_text()
    assert 0o600 == (folder / "results.jsonl").stat().st_mode & 0o777


@needs_posix
def test_env_file_readable_by_others_gives_one_warning(folder: Path, service: CountingSandbox, start: Start) -> None:
    """A command that reads the file of secrets twice warns only once that other users can read it."""
    (folder / "jobs.csv").write_text("id,document-front\nwarned,front.jpg\n")
    (folder / "secret.env").write_text("\n".join(f"{name}={value}" for name, value in service.sandbox.environ.items()))
    (folder / "secret.env").chmod(0o644)

    words = "batch run jobs.csv --journal warned.db --out warned.jsonl --env-file secret.env --json"
    code, _, err = wait_for_exit(start(*words.split()))

    assert 0 == code
    assert ["Other users can read secret.env"] == [
        json.loads(line)["warning"].split(",")[0] for line in err.splitlines()
    ]


def test_resolve_settles_unknown_jobs_and_retry_failed_repeats_failed_jobs(
    folder: Path, service: CountingSandbox, start: Start, run_in_terminal: RunInTerminal
) -> None:
    """`batch status` prints the command that resolves each creation without a response; results hold each failure."""
    (folder / "jobs.jsonl").write_text(
        "".join(
            json.dumps({"id": job_id, "media": [{"path": "front.jpg", "context": "face"}], "timeout": 30}) + "\n"
            for job_id in ("made", "lost", "refused", "good")
        )
    )
    for fault in (Fault.lose_response(), Fault.drop(after=1), Fault.status(400, code="1104")):
        service.sandbox.inject(fault, method="POST", path="/v1/sessions")
    words = "batch run jobs.jsonl --journal=a.db --out=r.jsonl --concurrency=1"
    process = start(*words.split(), **service.sandbox.environ)
    code, out, err = wait_for_exit(process)

    assert 1 == code, err
    assert ["unknown\tOutcomeUnknownError\t2", "decided\tapproved\t1", "failed\tBadRequestError\t1"] == out.splitlines()
    assert "To continue: veriff-async batch resume --journal a.db --out r.jsonl" in err
    code, shown = run_in_terminal("batch", "status", "--journal", "a.db")
    assert 0 == code
    assert "status or error" in shown
    assert "continue with: veriff-async batch resume --journal a.db" in shown
    commands = re.findall(r"veriff-async (batch resolve [^\r\n]+)", shown)
    assert [f"batch resolve --journal a.db --session ID {job_id}" for job_id in ("made", "lost")] == commands

    [session] = [session for session in service.sandbox.sessions if session.vendor_data == "made"]
    assert 0 == wait_for_exit(start(*shlex.split(commands[0].replace("ID", session.id))))[0]
    assert 0 == wait_for_exit(start(*shlex.split(commands[1].replace("--session ID", "--recreate"))))[0]
    code, out, err = wait_for_exit(
        start("batch", "resume", "--journal=a.db", "--retry-failed", **service.sandbox.environ)
    )

    assert (0, "decided\tapproved\t4\n") == (code, out), err
    assert {(job_id, "approved"): 1 for job_id in ("made", "lost", "refused", "good")} == service.count_sessions(
        "made", "lost", "refused", "good"
    )
    lines = [(line["job_id"], line["state"], line["error"]) for line in read_results(folder / "r.jsonl")]
    assert ("refused", "failed", "BadRequestError") in lines
    assert ("refused", "decided", None) == [line for line in lines if line[0] == "refused"][-1]
    assert 5 == len(lines)


def test_invalid_rows_are_reported_before_the_first_request(
    folder: Path, service: CountingSandbox, start: Start
) -> None:
    """Without --skip-bad nothing is sent or written, and no cell's content is shown."""
    (folder / "jobs.csv").write_text(
        f"id,face,date_of_birth\nbad-1,front.jpg,{SECRET}\n,front.jpg,\nbad-2,front.jpg,\n"
    )
    (folder / "other.jsonl").write_text("{}\n")
    before = len(service.sandbox.requests)
    commands = [
        ("jobs.csv", "--journal=a.db", "--out=r.jsonl"),
        ("jobs.csv", "--dry-run", "--json"),
        ("jobs.csv", "--journal=b.db", "--out=other.jsonl", "--skip-bad"),
    ]
    processes = [start("batch", "run", *command, **service.sandbox.environ) for command in commands]
    results = [wait_for_exit(process) for process in processes]
    refused, checked, mistaken = results

    assert [2, 2, 1] == [code for code, _, _ in results]
    assert "Line 2 (job bad-1): person.date_of_birth cannot be sent" in refused[2]
    assert "2 of 3 rows are invalid, so nothing was sent" in refused[2]
    assert [2, 3] == [row["line"] for row in json.loads(checked[1])["invalid_rows"]]
    assert "Line 1 of the results file is not a result" in mistaken[2]
    assert "{}\n" == (folder / "other.jsonl").read_text()
    assert not (folder / "a.db").exists()
    assert not (folder / "r.jsonl").exists()
    assert before == len(service.sandbox.requests)
    assert SECRET not in repr(results)


def test_submit_only_and_collect_split_submission_from_waiting(folder: Path, start: Start) -> None:
    """--submit-only ends when all jobs are submitted; `collect` needs only the journal, or also an inbox."""
    (folder / "jobs.csv").write_text("id,face,first_name\nlater-1,front.jpg,Ada\nlater-2,front.jpg,Grace\n")
    with Sandbox(decide_after=None) as sandbox:

        def start_batch(*words: str) -> subprocess.Popen[str]:
            return start("batch", *words, "--journal=a.db", "--out=r.jsonl", **sandbox.environ)

        submitted = wait_for_exit(start_batch("run", "jobs.csv", "--submit-only"))
        (folder / "jobs.csv").unlink()
        resuming = start_batch("resume")  # it ends before it claims the journal
        first, second = (
            session.id for session in sorted(sandbox.sessions, key=lambda session: session.vendor_data or "")
        )
        # No webhook reports this decision. With an inbox the session would be polled rarely.
        sandbox.decide(first, Status.APPROVED)
        early, resumed = (
            wait_for_exit(start_batch("collect", "--timeout=0", "--show-person", "--json")),
            wait_for_exit(resuming),
        )
        anyio.run(record, folder / "inbox.db", decision_event(second, Status.APPROVED))
        late = wait_for_exit(start_batch("collect", "--json", "--inbox=inbox.db"))

    assert (0, "submitted\t\t2\n") == submitted[:2]
    assert "veriff-async batch collect --journal a.db --out r.jsonl" in submitted[2]
    assert 1 == resumed[0]
    assert "The manifest of the batch is missing" in resumed[2]
    assert 4 == early[0], "one is decided, one is not yet"
    assert {"state": "decided", "detail": "approved", "jobs": 1} in json.loads(early[1])["outcomes"]
    assert 0 == late[0], late[2]
    assert [{"state": "decided", "detail": "approved", "jobs": 1}] == json.loads(late[1])["outcomes"]
    people = [line.get("person") for line in read_results(folder / "r.jsonl") if line["session_id"] == first]
    assert any("Ada" in json.dumps(person).title() for person in people), "the person is shown with --show-person"
    assert {JobState.DECIDED: 2} == anyio.run(count_by_state, folder / "a.db")


def test_spent_budget_has_its_own_exit_code_and_a_later_run_continues(
    folder: Path, invoke: Callable[..., Result], service: CountingSandbox, blockbuster: BlockBuster
) -> None:
    """A plan costs nothing; the run creates what is permitted, lists the rest as left, and `resume` continues."""
    blockbuster.deactivate()  # the command has the loop to itself
    ids = [f"job-{number}" for number in range(5)]
    (folder / "jobs.csv").write_text("\n".join(["id,face,timeout", *(f"{job_id},front.jpg,60" for job_id in ids), ""]))
    files = ("--journal=a.db", "--out=r.jsonl")
    variables = {**service.sandbox.environ, "VERIFF_MAX_SESSIONS": "2"}

    def run(*words: str) -> Result:
        return invoke("batch", *words, **variables)

    plan = run("run", "jobs.csv", "--journal=a.db", "--dry-run", "--max-per-hour=1", "--json")
    assert not (folder / "a.db").exists()
    assert service.sandbox.requests == ()
    first = run("run", "jobs.csv", *files, "--poll-rate=1000")
    content = (folder / "a.db").read_bytes()
    later_plan = run("run", "jobs.csv", "--journal=a.db", "--dry-run", "--max-sessions=4")
    assert content == (folder / "a.db").read_bytes()
    second = run("resume", *files, "--max-sessions=4", "--json")
    third = run("resume", *files)
    last = run("resume", *files, "--max-sessions=9")
    status = run("status", "--journal=a.db", "--json")

    document = json.loads(plan.stdout)
    assert (plan.exit_code, document["rows"], document["new"], document["files"]) == (0, 5, 5, 2)
    assert (document["sessions"], document["left"], document["seconds"]) == (2, 3, 3600)
    assert document["bytes"] == 2 * len(PICTURE)
    assert "  sessions: 2\n  left: 1\n" in later_plan.stdout
    assert [first.exit_code, later_plan.exit_code, second.exit_code, third.exit_code, last.exit_code] == [5, 0, 5, 5, 0]
    assert json.loads(status.stdout)["sessions"] == {"total": 5, "last_hour": 5}
    assert "new\tSessionLimitError\t3\n" in first.stdout
    assert "with 3 jobs left" in first.stderr
    assert "batch resume --journal a.db --out r.jsonl --max-sessions COUNT" in first.stderr
    assert json.loads(second.stdout)["left"] == 1
    assert "with 1 job left" in third.stderr, "resume uses the limit of the last run"
    assert {(job_id, "approved"): 1 for job_id in ids} == service.count_sessions(*ids)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "jobs.csv"), 2, "Give --journal and --out, or --dry-run"),
        (("run", "jobs.csv", "--out", "r.jsonl"), 2, "Give --journal and --out, or --dry-run"),
        (("resume", "--journal", "a.db", "--out", "r.jsonl"), 1, "repeat batch run with the manifest"),
        (("resolve", "--journal", "a.db", "u1"), 2, "Give either --session ID, or --recreate"),
        (("resolve", "--journal", "a.db", "u1", "--recreate", "--session", "x"), 2, "Give either --session ID"),
    ],
)
def test_missing_options_are_named(
    folder: Path, invoke: Callable[..., Result], words: Sequence[str], code: int, message: str
) -> None:
    """Nothing is sent or written before the options are complete."""
    (folder / "jobs.csv").write_text("id,face\nu1,front.jpg\n")
    (folder / "a.db").touch()

    result = invoke("batch", *words)

    assert (code, "") == (result.exit_code, result.stdout)
    assert message in " ".join(result.stderr.split())
    assert (0, False) == ((folder / "a.db").stat().st_size, (folder / "r.jsonl").exists())


def test_plan_shows_the_time_of_the_last_session_and_json_the_invalid_rows(
    folder: Path, invoke: Callable[..., Result]
) -> None:
    """A dry run with a limit per hour says how long it takes; a run with --json names rows that it would not send."""
    (folder / "jobs.csv").write_text("id,face\nu1,front.jpg\nu2,front.jpg\n")
    (folder / "bad.csv").write_text("id,face\nu1,front.jpg\n,front.jpg\n")
    variables = {
        "VERIFF_API_KEY": "key",
        "VERIFF_SHARED_SECRET": "secret",
        "VERIFF_BASE_URL": "http://127.0.0.1:9",
    }

    plan = invoke("batch", "run", "jobs.csv", "--dry-run", "--max-per-hour", "1", **variables)
    bad = invoke("batch", "run", "bad.csv", "--journal", "a.db", "--out", "r.jsonl", "--json", **variables)

    assert (0, True) == (plan.exit_code, "time until the last session: 1 h 0 min" in plan.stdout), plan.output
    assert (2, [3]) == (bad.exit_code, [row["line"] for row in json.loads(bad.stdout)["invalid_rows"]])
    assert not (folder / "r.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [("MAX_SESSIONS", "-1"), ("MAX_PER_HOUR", "0"), ("MAX_PER_HOUR", "many"), ("POLL_RATE", "nan"), ("POLL_RATE", "0")],
)
def test_wrong_limits_in_variables_are_refused(name: str, text: str) -> None:
    """A variable that is no number of its option is an error that names it; an empty one counts as missing."""
    with pytest.raises(ConfigurationError, match=f"VERIFF_{name} must be a number"):
        read_limits({f"VERIFF_{name}": text})

    assert read_limits({f"VERIFF_{name}": " "}) == RunLimits()


def test_check_ignores_missing_files_of_jobs_that_have_a_session(folder: Path) -> None:
    """A job with a session may need its file no longer; files of other jobs are checked."""
    (folder / "jobs.csv").write_text("id,face\nknown,gone.jpg\nnew,gone.jpg\n")
    bad: list[InvalidRow] = []

    async def check() -> ManifestCheck:
        async with SqliteJournal("a.db") as journal:
            await journal.claim("known")
            record = JobRecord(job_id="known", options_digest="", media=(MediaRecord(context="face"),))
            await journal.write(record.with_session("8f0d1ab6"))
        return await check_manifest(folder / "jobs.csv", 900.0, folder / "a.db", bad.append)

    result = anyio.run(check)

    assert (1, bad) == (result.valid, result.invalid)
    assert ["new"] == [row.job_id for row in bad]


@pytest.mark.parametrize("replaces", [False, True], ids=["written", "replaced"])
def test_manifest_that_changed_since_its_check_is_not_sent(folder: Path, *, replaces: bool) -> None:
    """Rows are known by their lines, so in a changed file a bad row would be sent, and a good one would be skipped."""
    manifest, rows = folder / "jobs.csv", "id,face\nbad,gone.jpg\ngood,front.jpg\n"
    manifest.write_text(rows)

    def change() -> None:
        target = folder / "new.csv" if replaces else manifest
        target.write_text(rows.replace("\n", "\nnew,front.jpg\n", 1))
        target.replace(manifest)

    async def send(*, is_changed: bool) -> list[str]:
        checked = await check_manifest(manifest, 900.0, None, lambda _: None)
        if is_changed:
            await to_thread.run_sync(change)
        jobs = iter_jobs(manifest, 900.0, MemoryJournal(), lambda _: None, checked=checked)
        return [job.id async for job in jobs]

    assert ["good"] == anyio.run(partial(send, is_changed=False))
    with pytest.raises(ConfigurationError, match="manifest changed"):
        anyio.run(partial(send, is_changed=True))


def test_saved_options_load_unchanged_and_reject_any_other_content(folder: Path) -> None:
    """Saved options are loaded with absolute paths; a file with any other content is refused."""
    options = SavedOptions(
        manifest=Path("jobs.csv"),
        out=Path("r.jsonl"),
        env_file=None,
        inbox=Path("inbox.db"),
        timeout=2.5,
        concurrency=3,
        max_waiting=4,
        on_unknown="fail",
        skip_bad=True,
        submit_only=False,
        show_person=True,
        limits=RunLimits(max_sessions=5, poll_rate=0.5),
    )
    journal = folder / "a.db"
    assert load_options(journal) is None
    save_options(journal, options)
    expected = evolve(options, manifest=folder / "jobs.csv", out=folder / "r.jsonl", inbox=folder / "inbox.db")
    assert expected == load_options(journal)
    for text in ("", "{}", '{"version": 2}', (folder / "a.db-options.json").read_text().replace("fail", "guess")):
        (folder / "a.db-options.json").write_text(text)
        with pytest.raises(ConfigurationError, match="repeat batch run"):
            load_options(journal)
    with pytest.raises(ConfigurationError, match="folder of your own"):
        save_options(folder / "nowhere" / "a.db", options)


def test_results_file_is_checked_before_it_is_opened(folder: Path) -> None:
    """A missing folder, and another file that ends like a torn line, are errors before the first request."""
    (folder / "other.txt").write_text('{"job_id": "a", "state": "decided"}\n{"other": 1}\n{"job_id":"b"')
    for name, words in (("no/r.jsonl", "cannot be written"), ("other.txt", "Line 2 of the results file")):
        with pytest.raises(ConfigurationError, match=words), open_results(folder / name, show_person=False):
            pytest.fail("it was opened")
    assert (folder / "other.txt").read_text().endswith('"b"')


def test_half_a_line_of_a_killed_run_is_removed_from_the_results(folder: Path) -> None:
    """The complete lines stay, and the incomplete one is written again by the run."""
    whole = '{"job_id":"u1","state":"failed"}\n'
    for half in ('{"job_id":"u2","sta', '{"jo'):
        (folder / "r.jsonl").write_text(whole + half)
        with open_results(folder / "r.jsonl", show_person=False):
            assert whole == (folder / "r.jsonl").read_text()


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (BatchProgress(decided=1, paused=True), "1 of 9 jobs, paused: requests fail; running 0"),
        (BatchProgress(decided=1, sessions_left_this_hour=0), "1 of 9 jobs, no more sessions this hour; running 0"),
        (BatchProgress(decided=9, sessions_left_this_hour=0), "9 of 9 jobs; running 0"),
    ],
)
def test_progress_says_why_nothing_happens(
    capsys: pytest.CaptureFixture[str], progress: BatchProgress, words: str
) -> None:
    """A pause and a spent limit of the hour take the place of the rate, until all jobs are done."""

    async def read_progress() -> str:
        async with VeriffClient(Credentials("key", "secret"), base_url="http://127.0.0.1:1") as veriff:
            display = ProgressDisplay(9, veriff.statistics)
            display.update(progress)
            async with display.show(line_seconds=0):
                while not (written := capsys.readouterr().err):  # noqa: ASYNC110  the display writes from another task
                    await asyncio.sleep(0)
        return written

    assert anyio.run(read_progress).startswith(words)


def test_progress_without_a_terminal_is_a_line_at_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    """The line has the jobs by state, their rate, the time left, and the bytes sent."""

    async def read_progress() -> str:
        async with VeriffClient(Credentials("key", "secret"), base_url="http://127.0.0.1:1") as veriff:
            display = ProgressDisplay(1000, veriff.statistics, is_submission=True)
            display.update(
                BatchProgress(resumed=1, running=3, submitted=4, decided=1, stopped=2, left=1, sessions_left=0)
            )
            async with display.show(line_seconds=0):
                while not (words := capsys.readouterr().err):  # noqa: ASYNC110  the display writes from another task
                    await asyncio.sleep(0)
        return words

    line = anyio.run(read_progress).splitlines()[0]

    assert re.fullmatch(
        r"8 of 1000 jobs, \d+\.\d/s, \d+ (s|min) left; running 3, waiting 0, submitted 4, decided 1, failed 0, "
        r"unknown 0, stopped 2, left 1; 0\.00 MB sent; budget 0",
        line,
    )
    assert ["42 s", "3 min", "2 h 59 min"] == [format_duration(seconds) for seconds in (42, 185, 3 * 3600 - 1)]


async def record(path: Path, event: WebhookEvent) -> None:
    """Record an event in an inbox, as a receiver does."""
    async with SqliteInbox(path) as inbox:
        await inbox.record(event)


async def count_by_state(path: Path) -> Mapping[JobState, int]:
    """Return the number of jobs in a journal by state."""
    async with SqliteJournal(path) as journal:
        return await journal.count_by_state()
