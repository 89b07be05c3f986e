"""The commands that show what Veriff stores about a session, report fraud, and delete, against a sandbox."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.test_decision import PICTURE, submit_session
from veriff_async import Media, Person
from veriff_async.models import MatchStatus, PepEntity, PepHit, PepSanctionMatch, WatchlistHit, WatchlistScreening

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from veriff_async.sandbox import Sandbox

    Invoke = Callable[..., Result]
    RunInTerminal = Callable[..., tuple[int, str]]
    StartInTerminal = Callable[..., tuple[subprocess.Popen[bytes], int]]
    ReadUntil = Callable[[int, str | None], str]

PDF: Final = b"%PDF-1.7\n" + bytes(1000) + b"\n%%EOF\n"
SECRET: Final = "Zuckerkandl"
SECONDS: Final = 60.0


@pytest.fixture
def session_id(manual_sandbox: Sandbox) -> str:
    """Return a session that is decided, has a certificate, and may be named in lists."""
    # A certificate covers PDFs.
    session_id = submit_session(manual_sandbox, Media(PICTURE, "face"), Media(PDF, "address-front"))
    manual_sandbox.decide(session_id, "approved", person=Person(first_name="Grace", last_name=SECRET))
    hit = WatchlistHit(matched_name=SECRET, match_types=("name_fuzzy",))
    screening = WatchlistScreening(match_status=MatchStatus.POSSIBLE_MATCH, hits=(hit,), total_hits=1)
    manual_sandbox.complete_watchlist_screening(session_id, screening)
    match = PepSanctionMatch(provider="lists", hits=(PepHit(doc=PepEntity(name=SECRET)),), number_of_matches=1)
    manual_sandbox.set_pep_matches(session_id, match)
    manual_sandbox.issue_certificate(session_id)
    return session_id


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("attempts", "approved"),
        ("person", "number of matches: 1"),
        ("watchlist", "match status: possible_match"),
        ("certificates list", "nom-151-certificate"),
    ],
)
def test_commands_show_personal_data_only_if_asked(
    invoke: Invoke, manual_sandbox: Sandbox, session_id: str, command: str, shown: str
) -> None:
    """People and programs see names and hits only with --show-person; then the document has Veriff's response too."""
    words = [*command.split(), session_id]
    text = invoke(*words, **manual_sandbox.environ)
    document = invoke(*words, "--json", **manual_sandbox.environ)
    whole = invoke(*words, "--json", "--show-person", **manual_sandbox.environ)

    assert [each.exit_code for each in (text, document, whole)] == [0, 0, 0]
    assert [each.stderr for each in (text, document, whole)] == ["", "", ""]
    assert shown in text.stdout
    assert SECRET not in text.stdout + document.stdout
    assert "raw" not in json.loads(document.stdout)
    assert json.loads(document.stdout)["session_id"] == session_id
    assert (SECRET in whole.stdout) is (command in {"person", "watchlist"})
    assert ("raw" in json.loads(whole.stdout)) is (command in {"person", "watchlist"})


def test_terminal_shows_tables(run_in_terminal: RunInTerminal, manual_sandbox: Sandbox, session_id: str) -> None:
    """Values are a table, and each search in lists has a table of its own."""
    code, written = run_in_terminal("person", session_id, "--show-person", **manual_sandbox.environ)

    assert code == 0
    assert "│ last name" in written
    assert "pep sanction matches 1" in written
    assert "hits 1" in written


def test_unknown_session_is_one_sentence(invoke: Invoke, manual_sandbox: Sandbox) -> None:
    """An id that Veriff does not know is exit code 1, and the document of the error names the session."""
    unknown = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"

    result = invoke("attempts", unknown, "--json", **manual_sandbox.environ)

    assert (result.exit_code, result.stdout) == (1, "")
    assert json.loads(result.stderr)["error"]["session_id"] == unknown


def test_certificates_are_downloaded_once(
    invoke: Invoke, manual_sandbox: Sandbox, session_id: str, tmp_path: Path
) -> None:
    """Documents get into the folder; an existing one is an error, unless it is skipped or replaced."""
    words = ("certificates", "download", session_id, "--to", str(tmp_path / "documents"))

    first = invoke(*words, "--json", **manual_sandbox.environ)
    again = invoke(*words, **manual_sandbox.environ)
    skipped = invoke(*words, "--if-exists", "skip", **manual_sandbox.environ)

    (saved,) = json.loads(first.stdout)["downloaded"]
    assert (first.exit_code, again.exit_code, skipped.exit_code) == (0, 1, 0)
    assert [str(path) for path in (tmp_path / "documents").iterdir()] == [saved["path"]]
    assert "give --if-exists skip or replace" in again.stderr
    assert "\texisting" in skipped.stdout


def test_fraud_is_reported_once_and_found(
    invoke: Invoke, manual_sandbox: Sandbox, session_id: str, tmp_path: Path
) -> None:
    """A report names categories and takes its comment from a file; Veriff refuses the second report: exit code 1."""
    comment = tmp_path / "comment.txt"
    comment.write_text(f"A copy, says {SECRET}.\n", encoding="utf-8")
    words = ("fraud", "report", session_id, "--category", "injected_media", "--comment", str(comment))

    names = invoke("fraud", "categories", **manual_sandbox.environ)
    first = invoke(*words, "--json", **manual_sandbox.environ)
    second = invoke(*words, **manual_sandbox.environ)
    found = invoke("fraud", "lookup", session_id, "--json", "--show-person", **manual_sandbox.environ)
    text = invoke("fraud", "lookup", session_id, **manual_sandbox.environ)

    assert "injected_media\t" in names.stdout
    assert (first.exit_code, json.loads(first.stdout)["reports"][0]["status"]) == (0, "reported")
    assert (second.exit_code, "error" in second.stdout, "an earlier report" in second.stderr) == (1, True, True)
    assert json.loads(found.stdout)["reports"][0]["details"]["customer_comment"] == f"A copy, says {SECRET}."
    assert (text.exit_code, SECRET in text.stdout) == (0, False)
    assert "status: FOUND" in text.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("fraud", "report", "ID", "--category", "injected_media", "--comment", SECRET),
        ("verify", "--person", SECRET, "--front", "front.jpg"),
        ("trigger", "--body", SECRET, "--to", "http://127.0.0.1:1/"),
        ("sandbox", "decide", "ID", "approved", "--data", SECRET),
    ],
)
def test_content_given_instead_of_a_file_is_not_repeated(
    invoke: Invoke, manual_sandbox: Sandbox, words: tuple[str, ...]
) -> None:
    """An option that takes a file with personal data explains that, and does not show the text that it got."""
    result = invoke(*words, **manual_sandbox.environ)

    assert (result.exit_code in {1, 2}, manual_sandbox.requests) == (True, ())
    assert "standard input" in result.stderr
    assert SECRET not in result.stderr + result.stdout


@pytest.mark.parametrize(("comment", "words"), [(b"\xff", "not UTF-8"), (b"x" * 600, "Veriff takes 500")])
def test_comment_that_veriff_would_refuse_is_not_sent(
    invoke: Invoke, manual_sandbox: Sandbox, tmp_path: Path, comment: bytes, words: str
) -> None:
    """A comment in another encoding, or one that is too long, is one sentence, and no report is sent."""
    (tmp_path / "comment.txt").write_bytes(comment)
    options = ("--category", "injected_media", "--comment", str(tmp_path / "comment.txt"))

    result = invoke("fraud", "report", "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7", *options, **manual_sandbox.environ)

    assert (result.exit_code, manual_sandbox.requests) == (1, ())
    assert words in result.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_delete_without_a_terminal_needs_yes(
    invoke: Invoke, manual_sandbox: Sandbox, session_id: str, form: tuple[str, ...]
) -> None:
    """Where nothing can be asked, --yes is required: exit code 2, and nothing is sent."""
    refused = invoke("delete", session_id, *form, stdin="y\n", **manual_sandbox.environ)
    sent = [request for request in manual_sandbox.requests if request.method == "DELETE"]
    deleted = invoke("delete", session_id, "--yes", *form, **manual_sandbox.environ)

    assert (refused.exit_code, sent, "--yes" in refused.stderr) == (2, [], True)
    assert (deleted.exit_code, deleted.stderr) == (0, "")
    assert invoke("attempts", session_id, **manual_sandbox.environ).exit_code == 1


@pytest.mark.parametrize(
    ("answer", "code", "is_deleted"), [("y\n", 0, True), ("\n", 1, False), ("\x04", 1, False), (None, 130, False)]
)
def test_delete_asks_on_a_terminal(  # noqa: PLR0913, PLR0917  fixtures and parameters
    start_in_terminal: StartInTerminal,
    read_until: ReadUntil,
    manual_sandbox: Sandbox,
    session_id: str,
    answer: str | None,
    code: int,
    is_deleted: bool,  # noqa: FBT001
) -> None:
    """Only yes deletes; the default is no, also for Ctrl-D. Ctrl-C is exit code 130."""
    process, terminal = start_in_terminal("delete", session_id, **manual_sandbox.environ)
    asked = read_until(terminal, "[y/N]: ")
    if answer is None:
        process.send_signal(signal.SIGINT)
    else:
        os.write(terminal, answer.encode())
    written = read_until(terminal, None)

    assert process.wait(SECONDS) == code, asked + written
    assert session_id in asked
    assert any(request.method == "DELETE" for request in manual_sandbox.requests) is is_deleted
    assert ("is deleted." in written) is is_deleted
    assert "Traceback" not in written
