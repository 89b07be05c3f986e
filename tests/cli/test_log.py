"""``VERIFF_LOG`` shows the log of a command on stderr, in the format of the command."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async._logging import _Applied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    from veriff_async.sandbox import Sandbox

    Invoke = Callable[..., Result]

UNKNOWN: Final = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"


@pytest.fixture(autouse=True)
def own_level(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the level of the library, which a command sets for its process."""
    monkeypatch.setattr(_Applied, "value", "")
    logger = logging.getLogger("veriff_async")
    before = logger.level, list(logger.handlers)
    yield
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]


def test_people_see_lines(invoke: Invoke, manual_sandbox: Sandbox) -> None:
    """Each record is a line with its level, once."""
    result = invoke("decision", UNKNOWN, VERIFF_LOG="debug", **manual_sandbox.environ)

    lines = [line for line in result.stderr.splitlines() if line.startswith("Debug: ")]
    assert ["Debug: GET /v1/sessions/{session_id}/decision: HTTP 404"] == [line.partition(" in ")[0] for line in lines]


def test_programs_see_objects(invoke: Invoke, manual_sandbox: Sandbox) -> None:
    """With ``--json``, each record is an object with its fields, and stdout has the result only."""
    result = invoke("decision", UNKNOWN, "--json", VERIFF_LOG="debug", **manual_sandbox.environ)

    (logged,) = [document for document in map(json.loads, result.stderr.splitlines()) if "log" in document]
    assert {
        "veriff_operation": "decision",
        "veriff_status": 404,
        "veriff_session_id": UNKNOWN,
    }.items() <= logged.items()
    assert not result.stdout


@pytest.mark.parametrize("value", ["", "warning", "canary"])
def test_other_values_show_no_lines(invoke: Invoke, manual_sandbox: Sandbox, value: str) -> None:
    """Without the variable, or with a higher level, nothing is logged; a wrong value is one warning."""
    result = invoke("decision", UNKNOWN, VERIFF_LOG=value, **manual_sandbox.environ)

    assert "GET /v1" not in result.stderr.partition("Veriff refused")[0]
    assert (value == "canary") == result.stderr.count("VERIFF_LOG has no effect")
    assert "canary" not in result.stderr
