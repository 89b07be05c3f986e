"""`veriff-async record` and `veriff-async replay`, as separate processes."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import anyio
import pytest
from click.testing import CliRunner

from tests.cli.test_sandbox import SECONDS, read_variables, verify
from tests.conditions import needs_posix
from veriff_async.cli._commands import cli
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Start = Callable[..., subprocess.Popen[str]]


@needs_posix
def test_a_flow_is_recorded_and_replayed(start: Start, tmp_path: Path) -> None:
    """The printed variables are all that a program needs; both commands end well on Ctrl-C."""
    tape = tmp_path / "flow.jsonl"
    with Sandbox(decide_after=0) as sandbox:
        recorder = start(
            "record", "--to", sandbox.base_url, "--port", "0", "-o", str(tape), "--webhooks-to", "http://x/"
        )
        decision = anyio.run(verify, {**sandbox.environ, **read_variables(recorder, 3)})
        recorder.send_signal(signal.SIGINT)
        _, shown = recorder.communicate(timeout=SECONDS)
    assert recorder.returncode == 0
    assert "201  POST   /v1/sessions" in shown
    assert "/_recorder/webhooks" in shown
    assert json.loads(tape.read_text().splitlines()[0])["cassette"]["redacted"] is True
    assert sandbox.credentials.api_key not in tape.read_text()

    replay = start("replay", str(tape), "--port", "0", "--strict")
    assert anyio.run(verify, read_variables(replay, 6)).status == decision.status
    replay.send_signal(signal.SIGINT)
    _, shown = replay.communicate(timeout=SECONDS)
    assert replay.returncode == 0
    assert "200  PATCH  /v1/sessions/" in shown
    assert "Not replayed" not in shown


@needs_posix
def test_a_strict_replay_fails_with_the_unused_recordings(start: Start, tmp_path: Path) -> None:
    """The exit code is 1, and each recording has a line; credentials of the environment are not printed."""
    tape = tmp_path / "flow.jsonl"
    request: dict[str, object] = {"method": "PATCH", "path": "/v1/sessions/x", "headers": {}, "body": None}
    entry: dict[str, object] = {
        "kind": "exchange",
        "number": 0,
        "at": 0,
        "seconds": 0,
        "ending": "complete",
        "request": request,
    }
    tape.write_text('{"cassette":{"version":1,"redacted":true}}\n' + json.dumps(entry) + "\n")
    replay = start("replay", str(tape), "--port", "0", "--strict", VERIFF_API_KEY="a", VERIFF_SHARED_SECRET="b")
    assert set(read_variables(replay, 3)) == {"VERIFF_BASE_URL", "VERIFF_FEEDBACK_URL", "VERIFF_SYNC_URL"}
    assert replay.stderr is not None
    replay.stderr.readline()
    replay.send_signal(signal.SIGINT)
    _, shown = replay.communicate(timeout=SECONDS)
    assert replay.returncode == 1
    assert "Not replayed: line 2: PATCH /v1/sessions/..." in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["record"], 2, "--to"),
        (["record", "--to", "ftp://x"], 2, "not a URL"),
        (["record", "--to", "http://example.com", "-o", "new"], 1, "plain http"),
        (["record", "--to", "https://example.com", "-o", "old"], 1, "exists already"),
        (["replay", "old", "--timing", "fast"], 2, "give none, original, or a factor"),
        (["replay", "old", "--timing", "-1"], 1, "timing"),
        (["replay", "old"], 1, "Line 1 of the cassette"),
        (["replay", "missing"], 2, "does not exist"),
    ],
)
def test_wrong_usage_is_one_sentence(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong options, an existing output and a damaged cassette are refused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").write_text("not a cassette\n")
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == code
    assert message in " ".join(result.output.split())
