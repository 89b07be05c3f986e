"""The commands forget and retention: erase persons against a sandbox, and list what is due."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.test_decision import PICTURE, submit_session
from veriff_async import Media
from veriff_async.batch import SqliteJournal
from veriff_async.cli.batch.results import open_results
from veriff_async.erasure import files
from veriff_async.inbox import SqliteInbox
from veriff_async.testing import decision_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from veriff_async.sandbox import Sandbox

    Invoke = Callable[..., Result]

CANARY: Final = "Zyxwvut"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Return the file of an empty inbox."""
    path = tmp_path / "inbox.db"
    record(path, "another")
    return path


def record(path: Path, session_id: str) -> None:
    """Record a decision."""

    async def work() -> None:
        async with SqliteInbox(path) as opened:
            await opened.record(decision_event(session_id, "approved"))

    asyncio.run(work())


def submit(sandbox: Sandbox) -> str:
    """Return a session that is decided."""
    session_id = submit_session(sandbox, Media(PICTURE, "face"))
    sandbox.decide(session_id, "approved")
    return session_id


def test_forget_erases_and_keeps_the_receipt(
    invoke: Invoke, manual_sandbox: Sandbox, tmp_path: Path, inbox: Path
) -> None:
    """The command erases a session at Veriff and in the stores, and shows the receipt then and later."""
    session_id = submit(manual_sandbox)
    record(inbox, session_id)
    folder = tmp_path / "downloads" / session_id
    folder.mkdir(parents=True)
    queue = ["--queue", str(tmp_path / "erasures.db")]
    stores = ["--inbox", str(inbox), "--files", str(tmp_path / "downloads/{session_id}")]

    result = invoke("forget", session_id, *queue, *stores, "--yes", "--json", **manual_sandbox.environ)

    assert result.exit_code == 0, result.stderr
    (receipt,) = json.loads(result.stdout)["receipts"]
    assert receipt["complete"]
    assert receipt["veriff"] == {"deleted": 1}
    assert receipt["erased"] == {"files": 1, "inbox": 1}
    assert session_id not in result.stdout
    assert manual_sandbox.session(session_id).deleted
    assert not folder.exists()
    later = invoke("forget", "--receipts", *queue)
    assert later.exit_code == 0
    assert "is complete: 1 of 1 session at Veriff, 1 in files, 1 in inbox." in " ".join(later.stdout.split())


def test_forget_ends_with_6_while_the_quota_is_used_up(invoke: Invoke, manual_sandbox: Sandbox, tmp_path: Path) -> None:
    """Six sessions exceed the quota of an hour: the command says when Veriff can be asked again."""
    sessions = [submit(manual_sandbox) for _ in range(6)]
    queue = ["--queue", str(tmp_path / "erasures.db")]

    result = invoke("forget", *sessions, *queue, "--yes", **manual_sandbox.environ)

    assert result.exit_code == 6
    assert "continues: 0 of 1 session at Veriff. Veriff can be asked again at 20" in " ".join(result.stdout.split())
    assert result.stdout.count("is complete") == 5
    assert invoke("forget", "--resume", *queue, **manual_sandbox.environ).exit_code == 6
    again = invoke("forget", "--resume", *queue, "--json", **manual_sandbox.environ)
    assert [receipt["complete"] for receipt in json.loads(again.stdout)["receipts"]] == [False]


def test_wrong_id_is_refused_before_any_session_is_erased(
    invoke: Invoke, manual_sandbox: Sandbox, tmp_path: Path
) -> None:
    """A misspelled id among others ends the command with 1, and nothing was erased."""
    session_id, queue = submit(manual_sandbox), str(tmp_path / "erasures.db")
    result = invoke("forget", session_id, "a/b", "--queue", queue, "--yes", **manual_sandbox.environ)
    assert (result.exit_code, result.stdout) == (1, "")
    assert not manual_sandbox.session(session_id).deleted
    assert "Nothing is left to erase." in invoke("forget", "--receipts", "--queue", queue).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--resume", "--receipts"],
        ["a", "--vendor-data", "b"],
        ["--vendor-data", "a", "--end-user-id", "b"],
        ["a", "--inbox", "missing.db", "--yes"],
        ["--resume", "--local-only", "--queue", "missing.db"],
        ["--receipts", "--queue", "missing.db"],
        ["a", "--store-timeout", "0", "--yes"],
        ["a"],
    ],
)
def test_wrong_use_of_forget_is_exit_code_2(invoke: Invoke, arguments: list[str]) -> None:
    """Exactly one kind of target is needed, stores must exist, and a person or --yes confirms."""
    result = invoke("forget", *arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") < 6


def test_vendor_data_needs_an_inbox(invoke: Invoke, manual_sandbox: Sandbox, tmp_path: Path) -> None:
    """Only an inbox can find the sessions of a person, and the message says so."""
    queue = ["--queue", str(tmp_path / "erasures.db")]
    result = invoke("forget", "--vendor-data", CANARY, *queue, "--yes", **manual_sandbox.environ)
    assert result.exit_code == 1
    assert "Only an inbox" in result.stderr
    assert CANARY not in result.stderr


def test_person_without_sessions_is_a_warning(invoke: Invoke, tmp_path: Path, inbox: Path) -> None:
    """A wrong value erases nothing, and must not look like an erasure; the value is not repeated."""
    options = ["--inbox", str(inbox), "--queue", str(tmp_path / "erasures.db"), "--local-only", "--yes"]
    result = invoke("forget", "--vendor-data", CANARY, *options)
    assert result.exit_code == 0
    assert "nothing was erased: check the value" in " ".join(result.stderr.split())
    assert CANARY not in result.output


def test_store_that_fails_is_shown_and_resumed(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a batch writes to its results, the command ends with 6 and names the store; later it can be resumed."""
    monkeypatch.setattr(files, "_LOCK_TIMEOUT", 0.0)
    results, journal = tmp_path / "results.jsonl", tmp_path / "batch.db"
    results.write_text('{"job_id":"j","session_id":"a","state":"decided"}\n')
    asyncio.run(create_journal(journal))
    options = ["--queue", str(tmp_path / "erasures.db"), "--local-only"]
    stores = ["--results", str(results), "--journal", str(journal)]
    with open_results(results, show_person=False):
        result = invoke("forget", "a", *options, *stores, "--yes", "--wait")
    assert result.exit_code == 6
    assert "results: ErasureError: The results cannot be rewritten" in " ".join(result.stdout.split())
    again = invoke("forget", "--resume", *options, *stores)
    assert again.exit_code == 0
    assert "is complete: " in again.stdout
    assert "is complete: " in again.stderr
    assert results.read_text() == ""


async def create_journal(path: Path) -> None:
    """Create a journal without jobs."""
    async with SqliteJournal(path):
        pass


def test_retention_lists_what_is_due(invoke: Invoke, inbox: Path) -> None:
    """The plan lists every session; `overdue` ends with 6 if any is due, and with 0 otherwise."""
    plan = invoke("retention", "plan", "--inbox", str(inbox), "--max-age", "30", "--json")
    assert plan.exit_code == 0
    (item,) = [json.loads(line) for line in plan.stdout.splitlines()]
    assert (item["store"], item["session_id"], item["overdue"]) == ("inbox", "another", False)
    fresh = invoke("retention", "overdue", "--inbox", str(inbox), "--max-age", "30")
    assert (fresh.exit_code, fresh.stdout) == (0, "Nothing is overdue.\n")
    old = invoke("retention", "overdue", "--inbox", str(inbox), "--max-age", "0.000000001")
    assert old.exit_code == 6
    assert old.stdout.startswith("inbox\tanother\t20")


def test_retention_without_a_store_is_exit_code_2(invoke: Invoke) -> None:
    """A plan of nothing would look as if nothing were due."""
    assert invoke("retention", "overdue", "--max-age", "30").exit_code == 2
