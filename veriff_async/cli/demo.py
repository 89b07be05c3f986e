"""The demo command: the whole flow on real pictures, against a sandbox in the same process."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Final

import click
from attrs import field, frozen

from veriff_async import Media, Person, PollPolicy, VeriffClient
from veriff_async._protocol.counts import format_count
from veriff_async.cli._decision_format import decision_fields, person_fields, print_decision
from veriff_async.cli._options import FILE, json_option, show_person_option
from veriff_async.cli._output import megabytes
from veriff_async.cli._runtime import print_json, run, stderr_output, stdout_output
from veriff_async.sandbox import Sandbox
from veriff_async.sandbox._specimens import specimen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from veriff_async import Decision, UploadedMedia, UploadProgress
    from veriff_async.cli._output import Output

__all__ = ("CONTEXTS", "demo", "run_demo")

CONTEXTS: Final = ("document-front", "document-back", "face")

# Bytes of a specimen at upload: the size of a real picture. The stored ones are small to keep the wheel small.
_PADDED_SIZE: Final = 720_000

# Least duration of the upload on a terminal: on loopback it would end before a progress bar is visible.
_UPLOAD_SECONDS: Final = 1.2

# Seconds until the sandbox decides. Real decisions take minutes.
_DECIDE_AFTER: Final = 1.0

_DECISION_TIMEOUT: Final = 60.0

_NEXT_STEPS: Final = (
    "In Veriff's Customer Portal open Workspace > All integrations > your integration > API Keys.",
    (
        "Set these environment variables to the values shown there: VERIFF_API_KEY (API key), VERIFF_SHARED_SECRET "
        "(shared secret key) and VERIFF_BASE_URL (base URL). Start with a test integration, whose decisions you "
        "trigger in the portal."
    ),
    "Create the client with VeriffClient.from_env(): the calls of this demo run against Veriff unchanged.",
    "To develop and test without credentials, run the sandbox on its own: veriff-async sandbox",
)


@frozen(kw_only=True)
class DemoResult:
    """The result of the demo."""

    base_url: str
    uploaded: tuple[UploadedMedia, ...]
    file_bytes: int
    sent_bytes: int
    upload_seconds: float
    decision_seconds: float
    decision: Decision


@click.command()
@click.option("--front", type=FILE, help="Front of a document instead of the specimen.")
@click.option("--back", type=FILE, help="Back of a document instead of the specimen.")
@click.option("--face", type=FILE, help="Picture of a face instead of the specimen.")
@show_person_option
@json_option
def demo(*, front: Path | None, back: Path | None, face: Path | None, for_program: bool, show_person: bool) -> None:
    """Run the whole flow, from files to decision, against a local sandbox.

    Nothing leaves this machine. Specimen pictures replace those that you do not give.
    """
    output = stderr_output() if for_program else stdout_output()
    result = run(run_demo({"document-front": front, "document-back": back, "face": face}, output))
    if for_program:
        print_json(_document(result, show_person=show_person))
        return
    output.print_numbered("What just happened", _explanation(result))
    output.print_numbered("What to do next", _NEXT_STEPS)
    output.print("")
    # Last, so that a terminal of 24 lines still shows it: the texts above fill a whole screen.
    print_decision(output, result.decision, show_person=show_person)


async def run_demo(files: Mapping[str, Path | None], output: Output) -> DemoResult:
    """Verify pictures against a new sandbox.

    Args:
        files: A file for each context; a specimen of the package replaces `None`.
        output: Receives the progress.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="veriff-async-demo-")))
        paths = {context: files.get(context) or _write_large_specimen(context, folder) for context in CONTEXTS}
        media = [Media(path, context, filename=path.name) for context, path in paths.items()]
        file_bytes = sum(path.stat().st_size for path in paths.values())
        # The default intervals are made for decisions that take minutes.
        poll = PollPolicy(interval=0.2, backoff_factor=1.0, max_interval=0.2)
        async with (
            Sandbox(decide_after=_DECIDE_AFTER) as sandbox,
            VeriffClient(sandbox.credentials, base_url=sandbox.base_url, poll=poll) as veriff,
        ):
            return await _verify(veriff, media, output, file_bytes=file_bytes, base_url=sandbox.base_url)


def _write_large_specimen(context: str, folder: Path) -> Path:
    """Write a specimen with zeros after its end, which image decoders ignore."""
    path = folder / f"{context}.webp"
    with specimen(path.name) as stored:
        path.write_bytes(stored.read_bytes().ljust(_PADDED_SIZE, b"\0"))
    return path


async def _verify(
    veriff: VeriffClient, media: list[Media], output: Output, *, file_bytes: int, base_url: str
) -> DemoResult:
    output.print("Creating a session")
    session = await veriff.create_session(
        person=Person(first_name="Ada", last_name="Specimen"), vendor_data="veriff-async demo"
    )
    output.print(f"Uploading {format_count(len(media), 'picture')}")
    started = perf_counter()
    with output.upload_bars(media) as show:
        # base64 writes three bytes as four characters.
        throttle = _Throttle(show, expected_bytes=file_bytes * 4 // 3, seconds=_UPLOAD_SECONDS if output.is_live else 0)
        uploaded = await session.upload(*media, progress=throttle.update)
    uploaded_at = perf_counter()
    await session.submit()
    submitted_at = perf_counter()
    with output.status("Waiting for the decision"):
        decision = await session.wait_for_decision(timeout=_DECISION_TIMEOUT)
    return DemoResult(
        base_url=base_url,
        uploaded=tuple(uploaded),
        file_bytes=file_bytes,
        sent_bytes=throttle.body_bytes,
        upload_seconds=uploaded_at - started,
        decision_seconds=perf_counter() - submitted_at,
        decision=decision,
    )


@frozen
class _Throttle:
    """Passes progress on, counts body bytes, and slows the upload down so that its bars can be watched.

    `update` runs on the event loop and sleeps there, which stops the client and the sandbox alike. A program must never
    do this in a callback; here it is the simplest way to make loopback as slow as a network.
    """

    show: Callable[[UploadProgress], None]
    expected_bytes: int
    seconds: float
    _sent: dict[int, int] = field(factory=dict[int, int], init=False)
    _totals: dict[int, int] = field(factory=dict[int, int], init=False)

    @property
    def body_bytes(self) -> int:
        """Size of all bodies; a repeated upload counts once."""
        return sum(self._totals.values())

    def update(self, event: UploadProgress) -> None:
        """Take one progress event."""
        key = id(event.media)
        new_bytes = event.bytes_sent - self._sent.get(key, 0)
        self._sent[key], self._totals[key] = event.bytes_sent, event.total_bytes
        self.show(event)
        # Negative when a repeated upload starts from zero again.
        if self.seconds and new_bytes > 0:
            time.sleep(self.seconds * new_bytes / self.expected_bytes)


def _explanation(result: DemoResult) -> tuple[str, ...]:
    pictures = format_count(len(result.uploaded), "picture")
    return (
        f"The sandbox, a local Veriff, started at {result.base_url} with its own API key and secret.",
        f"create_session() created session {result.decision.session_id} with a signed POST.",
        (
            f"upload() sent {pictures} concurrently in {result.upload_seconds:.2f} s: "
            f"{megabytes(result.file_bytes)} of files, {megabytes(result.sent_bytes)} on the wire. It held files of up "
            "to 4 MiB in memory from signing to sending, and read larger ones twice. (On a terminal the demo slows "
            "uploads down to show the progress bars.)"
        ),
        "submit() sent a signed PATCH that completes the session.",
        (
            f"wait_for_decision() polled until the decision was made, {result.decision_seconds:.2f} s later. The "
            "client verified the signature of every response."
        ),
    )


def _document(result: DemoResult, *, show_person: bool) -> dict[str, object]:
    document: dict[str, object] = {
        "decision": decision_fields(result.decision),
        "uploaded": [{"context": media.context, "id": media.id, "size": media.size} for media in result.uploaded],
        "bytes": {"files": result.file_bytes, "sent": result.sent_bytes},
        "seconds": {"upload": round(result.upload_seconds, 3), "decision": round(result.decision_seconds, 3)},
    }
    if show_person:
        document["person"] = person_fields(result.decision)
    return document
