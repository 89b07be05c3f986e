"""Verify one person from the files on this machine."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click
from attrs import frozen

from veriff_async import Media, OutcomeUnknownError, VeriffError, check_media
from veriff_async._protocol.image_header import ImageSizeWarning
from veriff_async._protocol.limits import MAX_SIDE
from veriff_async.batch._job_runner import finish_despite_cancellation
from veriff_async.cli._options import (
    FILE,
    env_file_option,
    json_option,
    proxy_option,
    show_person_option,
    timeout_option,
)
from veriff_async.cli._runtime import course, print_json, progress_screen, result_screen, run, warn
from veriff_async.cli._settings import client_from_settings
from veriff_async.cli.decision_output import again, document_of, exit_of
from veriff_async.cli.person_file import person_from, person_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async import Decision, UploadedMedia, VeriffClient, VerificationSession
    from veriff_async._protocol.session_request import CreateOptions
    from veriff_async.cli._output import Screen
    from veriff_async.cli._runtime import Course

__all__ = ("Order", "Verified", "run_verify", "verify")


_PATIENCE: Final = 10.0
"""Seconds that a command which is stopped waits for the id of a session under way."""


def _pairs(context: click.Context, option: click.Parameter, values: Sequence[str]) -> list[tuple[str, Path]]:
    """Read each ``CONTEXT=FILE``."""
    pairs: list[tuple[str, Path]] = []
    for value in values:
        shows, equals, path = value.partition("=")
        if not shows or not equals:
            msg = "give CONTEXT=FILE, for example address-front=bill.pdf."
            raise click.BadParameter(msg)
        pairs.append((shows, Path(os.fsdecode(FILE.convert(path, option, context)))))
    return pairs


@frozen(kw_only=True)
class Order:
    """What is to be verified.

    Attributes:
        media: The pictures.
        options: What the session is created with.
        timeout: Seconds to wait for the decision, or `None` not to wait.
        env_file: Where the credentials came from, for advice.
    """

    media: Sequence[Media]
    options: CreateOptions
    timeout: float | None
    env_file: Path | None = None


@frozen(kw_only=True)
class Verified:
    """What came of it.

    Attributes:
        session_id: The session.
        uploaded: The receipts, in the order of the pictures.
        decision: The decision, or `None` when nobody waited.
    """

    session_id: str
    uploaded: Sequence[UploadedMedia]
    decision: Decision | None


@click.command()
@click.option("--front", type=FILE, metavar="FILE", help="Picture of the document's front.")
@click.option("--back", type=FILE, metavar="FILE", help="Picture of the document's back.")
@click.option("--face", type=FILE, metavar="FILE", help="Picture of the person's face.")
@click.option(
    "--media",
    "others",
    callback=_pairs,
    multiple=True,
    metavar="CONTEXT=FILE",
    help="A file in another of Veriff's contexts, for example address-front=bill.pdf; may be repeated.",
)
@person_option
@click.option("--vendor-data", metavar="ID", help="Your own id of the end-user; no personal data.")
@click.option(
    "--max-side", type=click.IntRange(min=1), metavar="PIXELS", help="Scale pictures down to this longer side."
)
@click.option("--no-wait", is_flag=True, help="End when the session is submitted, without a decision.")
@timeout_option
@show_person_option
@proxy_option
@env_file_option
@json_option
def verify(  # noqa: PLR0913  the options of the command
    *,
    front: Path | None,
    back: Path | None,
    face: Path | None,
    others: Sequence[tuple[str, Path]],
    person_file: BinaryIO | None,
    vendor_data: str | None,
    max_side: int | None,
    no_wait: bool,
    timeout: float,
    show_person: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Verify one person: create a session, upload, submit, and wait for the decision.

    The exit code is 0 for approved, 3 for any other decision, 4 when none came in time. A decision can take days:
    with --no-wait, or after Ctrl-C, `veriff-async decision ID --wait` goes on.
    """
    named = {"document-front": front, "document-back": back, "face": face}
    files = [(context, path) for context, path in named.items() if path is not None] + list(others)
    if not files:
        msg = "There is nothing to verify: give at least one of --front, --back, --face and --media."
        raise click.UsageError(msg)
    options: CreateOptions = {}
    if person_file is not None:
        options["person"] = person_from(person_file)
    if vendor_data is not None:
        options["vendor_data"] = vendor_data
    media = [Media(path, context, max_side=max_side) for context, path in files]
    _check(media)
    order = Order(media=media, options=options, timeout=None if no_wait else timeout, env_file=env_file)
    done = run(run_verify(client_from_settings(env_file), order, progress_screen(), course()))
    if for_program:
        print_json(_document(done, show_person=show_person))
    elif done.decision is None:
        screen = result_screen()
        screen.say(f"  session id: {done.session_id}")
    else:
        result_screen().decision(done.decision, show_person=show_person)
    if done.decision is not None:
        raise SystemExit(exit_of(done.decision))


def _check(media: Sequence[Media]) -> None:
    """Refuse files that Veriff does not accept before there is a session, which could not be taken back."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category=ImageSizeWarning)
        run(check_media(*media))
    for warning in caught:
        # In the words of the command line.
        reason = str(warning.message).partition(": give ")[0]
        warn(f"{reason}: --max-side {MAX_SIDE} scales it down.")
    # Said once, here.
    warnings.filterwarnings("ignore", category=ImageSizeWarning)


async def run_verify(veriff: VeriffClient, order: Order, screen: Screen, course: Course) -> Verified:
    """Run the flow with a client, which is closed at the end.

    Args:
        veriff: The client.
        order: What to verify.
        screen: Where to show progress.
        course: Told how far it came.
    """
    async with veriff:
        screen.say("Creating a session")
        session = await _created(veriff, order, course)
        screen.say(f"Uploading {len(order.media)} files to session {session.id}")
        with screen.uploads(order.media) as shown:
            uploaded = await session.upload(*order.media, progress=shown)
        course.reached(
            f"It is not known whether session {session.id} was submitted; to see: "
            + again(f"decision {session.id}", order.env_file)
        )
        await session.submit()
        course.reached("To go on waiting: " + again(f"decision {session.id} --wait", order.env_file))
        if order.timeout is None:
            screen.say(f"Submitted. {course.advice.replace('go on waiting', 'wait for the decision')}")
            return Verified(session_id=session.id, uploaded=uploaded, decision=None)
        with screen.waiting("Waiting for the decision; Ctrl-C is safe, the session goes on"):
            decision = await session.wait_for_decision(timeout=order.timeout)
        course.reached("To see the decision: " + again(f"decision {session.id}", order.env_file))
    return Verified(session_id=session.id, uploaded=uploaded, decision=decision)


async def _created(veriff: VeriffClient, order: Order, course: Course) -> VerificationSession:
    """Create the session; when the command is stopped meanwhile, wait a moment for its id."""
    created: list[VerificationSession] = []

    async def create() -> None:
        session = await veriff.create_session(**order.options)
        course.reached(
            f"Session {session.id} was not submitted; the same command begins a new one.", session_id=session.id
        )
        created.append(session)

    course.reached(
        "A session may have been created: look for it in the Customer Portal before you begin again, "
        + (f"by its vendor_data {order.options['vendor_data']}." if "vendor_data" in order.options else "by its time.")
    )
    try:
        await finish_despite_cancellation(create(), grace=_PATIENCE)
    except OutcomeUnknownError:
        raise
    except VeriffError:
        course.reached("")  # a refusal, so there is no session
        raise
    return created[0]


def _document(done: Verified, *, show_person: bool) -> dict[str, object]:
    document = document_of(done.session_id, done.decision, show_person=show_person)
    document["uploaded"] = [{"context": one.context, "id": one.id, "size": one.size} for one in done.uploaded]
    return document
