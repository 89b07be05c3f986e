"""Consoles that cannot show every character, such as those of Windows with code page 1252."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from veriff_async import Person, VeriffClient

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from veriff_async.sandbox import Sandbox


def decide_session(sandbox: Sandbox) -> str:
    """Decide a session of a person whose name no Western code page has, and return its id."""

    async def work() -> str:
        async with VeriffClient.from_env(sandbox.environ) as veriff:
            session = await veriff.create_session(person=Person(first_name="\u0141ucja"))
            sandbox.decide(session.id, "approved")
            return session.id

    return anyio.run(work)


def test_name_that_the_encoding_lacks(
    run: Callable[..., subprocess.CompletedProcess[str]], manual_sandbox: Sandbox
) -> None:
    """The result is complete, with an escape for each character that is missing."""
    session_id = decide_session(manual_sandbox)
    done = run("decision", session_id, "--show-person", PYTHONIOENCODING="cp1252", **manual_sandbox.environ)
    assert (0, "") == (done.returncode, done.stderr)
    assert "\\u0141ucja" in done.stdout
    assert session_id in done.stdout


def test_spinner_that_the_encoding_has(
    run_in_terminal: Callable[..., tuple[int, str]], manual_sandbox: Sandbox
) -> None:
    """A terminal without braille gets a spinner and a table of ASCII."""
    session_id = decide_session(manual_sandbox)
    arguments = ("decision", session_id, "--wait")
    code, written = run_in_terminal(*arguments, PYTHONIOENCODING="cp1252", **manual_sandbox.environ)
    assert (0, True) == (code, "Waiting for the decision" in written)
    assert "\\u" not in written
