"""The verify command: one person, from files on this machine."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

import click
from attrs import evolve, fields, frozen

from veriff_async import (
    ConfigurationError,
    Media,
    MediaQualityError,
    OutcomeUnknownError,
    Person,
    VeriffError,
    check_media,
)
from veriff_async._protocol.image_header import ImageSizeWarning
from veriff_async._protocol.json.decode import load_object
from veriff_async._protocol.limits import MAX_SIDE
from veriff_async._protocol.option_names import closest
from veriff_async.batch._job_runner import finish_despite_cancellation
from veriff_async.cli._decision_format import decision_document, exit_code_of, print_decision
from veriff_async.cli._env_file import create_client
from veriff_async.cli._options import (
    CONTEXT,
    FILE,
    InputFile,
    check_quality_option,
    env_file_option,
    json_option,
    load_thresholds,
    proxy_option,
    require_check_quality,
    show_person_option,
    thresholds_option,
    timeout_option,
)
from veriff_async.cli._runtime import command_line, current_command, print_json, run, stderr_output, stdout_output, warn
from veriff_async.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async import Decision, InspectionThresholds, UploadedMedia, VeriffClient, VerificationSession
    from veriff_async._protocol.session_request import CreateOptions
    from veriff_async.cli._output import Output
    from veriff_async.cli._runtime import CommandState

__all__ = ("VerifyRequest", "VerifyResult", "read_person", "run_verify", "verify")


# Seconds that a stopped command waits for the id of the session that it is creating.
_SHUTDOWN_GRACE: Final = 10.0


_MAX_PERSON_BYTES: Final = 65_536

# The fields of a request: the address is an option of its own, and the other fields are results.
_PERSON_FIELDS: Final = tuple(
    attribute.name
    for attribute in fields(Person)
    if attribute.name not in {"addresses", "is_deceased", "pep_sanction_match", "raw"}
)


def _parse_media(context: click.Context, option: click.Parameter, values: Sequence[str]) -> list[tuple[str, Path]]:
    """Read each ``CONTEXT=FILE``."""
    pairs: list[tuple[str, Path]] = []
    for value in values:
        shows, equals, path = value.partition("=")
        if not shows or not equals:
            msg = "give CONTEXT=FILE, for example address-front=bill.pdf."
            raise click.BadParameter(msg)
        CONTEXT.convert(shows, option, context)
        pairs.append((shows, Path(os.fsdecode(FILE.convert(path, option, context)))))
    return pairs


@frozen(kw_only=True)
class VerifyRequest:
    """The media and options of a verification.

    Attributes:
        media: The pictures.
        options: Arguments of `create_session`.
        timeout: Seconds to wait for the decision, or `None` not to wait.
        env_file: Where the credentials came from, for resume hints.
    """

    media: Sequence[Media]
    options: CreateOptions
    timeout: float | None
    env_file: Path | None = None


@frozen(kw_only=True)
class VerifyResult:
    """The result."""

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
    callback=_parse_media,
    multiple=True,
    metavar="CONTEXT=FILE",
    help="A file in another of Veriff's contexts, for example address-front=bill.pdf; may be repeated.",
)
@click.option(
    "--person",
    "person_file",
    type=InputFile("rb", lazy=False),  # not an argument for each field: other users of the machine can read arguments
    metavar="FILE",
    help='Expected person: JSON such as {"first_name": "...", "date_of_birth": "1990-01-31"}; - for standard input.',
)
@click.option("--vendor-data", metavar="ID", help="Your own id of the end-user; no personal data.")
@click.option(
    "--max-side", type=click.IntRange(min=1), metavar="PIXELS", help="Scale pictures down to this longer side."
)
@click.option(
    "--max-bytes", type=click.IntRange(min=1), metavar="BYTES", help="Convert larger pictures to JPEG of so many bytes."
)
@click.option("--convert", type=click.Choice(["jpeg"]), help="Convert all pictures, of any type, to JPEG.")
@check_quality_option
@thresholds_option
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
    max_bytes: int | None,
    convert: Literal["jpeg"] | None,
    check_quality: bool,
    thresholds: Path | None,
    no_wait: bool,
    timeout: float,
    show_person: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Verify one person: create a session, upload, submit, and wait for the decision.

    The exit code is 0 for approved, 3 for any other decision, 4 when none came in time. A decision can take days:
    with --no-wait, or after Ctrl-C, `veriff-async decision ID --wait` continues.
    """
    named = {"document-front": front, "document-back": back, "face": face}
    files = [(context, path) for context, path in named.items() if path is not None] + list(others)
    if not files:
        msg = "There is nothing to verify: give at least one of --front, --back, --face and --media."
        raise click.UsageError(msg)
    options: CreateOptions = {}
    if person_file is not None:
        options["person"] = read_person(person_file)
    if vendor_data is not None:
        options["vendor_data"] = vendor_data
    media = [Media(path, context, max_side=max_side, max_bytes=max_bytes, convert=convert) for context, path in files]
    require_check_quality(thresholds, check_quality=check_quality)
    if check_quality:
        # The pictures are inspected once, here; the upload would inspect them again.
        _check_files([evolve(item, quality="refuse") for item in media], load_thresholds(thresholds))
    else:
        _check_files(media)
    request = VerifyRequest(media=media, options=options, timeout=None if no_wait else timeout, env_file=env_file)
    result = run(run_verify(create_client(env_file), request, stderr_output(), current_command()))
    if for_program:
        print_json(_document(result, show_person=show_person))
    elif result.decision is None:
        output = stdout_output()
        output.print(f"  session id: {result.session_id}")
    else:
        print_decision(stdout_output(), result.decision, show_person=show_person)
    if result.decision is not None:
        raise SystemExit(exit_code_of(result.decision))


def read_person(file: BinaryIO) -> Person:
    """Read a person from a JSON object with the field names of `Person`.

    Raises:
        ConfigurationError: The file is not a JSON object, or a member has an unknown name or is not a string. The
            message contains neither values nor unknown names, which may be personal data.
    """
    data = file.read(_MAX_PERSON_BYTES + 1)
    members = None
    if len(data) <= _MAX_PERSON_BYTES:
        # Not chained: the parser's own message may quote the person.
        with suppress(DecodeError):
            members = load_object(data)
    if members is None:
        msg = f'--person must be a JSON object of at most {_MAX_PERSON_BYTES} bytes, such as {{"first_name": "..."}}.'
        raise ConfigurationError(msg)
    for number, (name, value) in enumerate(members.items(), 1):
        if name not in _PERSON_FIELDS:
            best = closest(name, _PERSON_FIELDS)
            remedy = f"allowed fields: {', '.join(_PERSON_FIELDS)}." if best is None else f"did you mean {best}?"
            msg = f"Member {number} of --person is not a field of a person; {remedy}"
            raise ConfigurationError(msg)
        if not isinstance(value, str):
            msg = f"{name} in --person must be a string: put it in quotes, or leave it out."
            raise ConfigurationError(msg)
    return Person(**members)  # type: ignore[arg-type]


def _check_files(media: Sequence[Media], thresholds: InspectionThresholds | None = None) -> None:
    """Refuse files that Veriff does not accept before creating a session, which could not be undone."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category=ImageSizeWarning)
        try:
            run(check_media(*media, thresholds=thresholds))
        except MediaQualityError as error:
            for hint in error.inspection.hints if error.inspection else ():
                if not current_command().for_program:
                    stderr_output().print(hint, indent=0)
            raise
    for warning in caught:
        # Name the option of the command line instead of the argument of the library.
        reason = str(warning.message).partition(": pass ")[0]
        warn(f"{reason}: --max-side {MAX_SIDE} scales it down.")
    # Do not show the same warning again during the upload.
    warnings.filterwarnings("ignore", category=ImageSizeWarning)


async def run_verify(veriff: VeriffClient, request: VerifyRequest, output: Output, state: CommandState) -> VerifyResult:
    """Run the flow. The client is closed at the end."""
    async with veriff:
        output.print("Creating a session")
        session = await _create_session(veriff, request, state)
        output.print(f"Uploading to session {session.id}")
        with output.upload_bars(request.media) as show:
            uploaded = await session.upload(*request.media, progress=show)
        state.set_resume_hint(
            f"It is not known whether session {session.id} was submitted; to see: "
            + command_line(f"decision {session.id}", request.env_file)
        )
        await session.submit()
        state.set_resume_hint("To continue waiting: " + command_line(f"decision {session.id} --wait", request.env_file))
        if request.timeout is None:
            output.print(f"Submitted. {state.resume_hint.replace('continue waiting', 'wait for the decision')}")
            return VerifyResult(session_id=session.id, uploaded=uploaded, decision=None)
        with output.status("Waiting for the decision; Ctrl-C is safe, the session continues"):
            decision = await session.wait_for_decision(timeout=request.timeout)
        state.set_resume_hint("To see the decision: " + command_line(f"decision {session.id}", request.env_file))
    return VerifyResult(session_id=session.id, uploaded=uploaded, decision=decision)


async def _create_session(veriff: VeriffClient, request: VerifyRequest, state: CommandState) -> VerificationSession:
    """Create the session; if the command is stopped during the request, wait some seconds for the session id."""
    created: list[VerificationSession] = []

    async def create() -> None:
        # Both steps are protected from cancellation, so that the id of the session is never lost between them.
        session = await veriff.create_session(**request.options)
        state.set_resume_hint(
            f"Session {session.id} was not submitted; running the same command creates a new one.",
            session_id=session.id,
        )
        created.append(session)

    # Before the request: a signal may arrive while it is under way.
    state.set_resume_hint(
        "A session may have been created: look for it in the Customer Portal before you run this again, "
        + (
            f"by its vendor_data {request.options['vendor_data']}."
            if "vendor_data" in request.options
            else "by its time."
        )
    )
    try:
        await finish_despite_cancellation(create(), grace=_SHUTDOWN_GRACE)
    # The hint stays: a session may have been created.
    except OutcomeUnknownError:
        raise
    except VeriffError:
        state.set_resume_hint("")  # refused, so nothing was created
        raise
    return created[0]


def _document(result: VerifyResult, *, show_person: bool) -> dict[str, object]:
    document = decision_document(result.session_id, result.decision, show_person=show_person)
    document["uploaded"] = [{"context": media.context, "id": media.id, "size": media.size} for media in result.uploaded]
    return document
