"""The whole flow on real pictures, against a Veriff that starts in the same process."""

from __future__ import annotations

from contextlib import ExitStack
from time import perf_counter
from typing import TYPE_CHECKING, Final

import click

from veriff_async import Media, Person, PollPolicy, VeriffClient
from veriff_async.cli._options import FILE, json_option, show_person_option
from veriff_async.cli._output import Screen, as_json
from veriff_async.cli._runtime import run
from veriff_async.cli._streams import print_result, progress_console, result_console
from veriff_async.cli.demo_summary import Outcome
from veriff_async.cli.specimens import specimen
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from veriff_async import UploadProgress

__all__ = ("CONTEXTS", "demo", "run_demo")

CONTEXTS: Final = ("document-front", "document-back", "face")

_DECIDE_AFTER: Final = 1.0  # seconds; long enough to be seen, real decisions take minutes
_PATIENCE: Final = 60.0  # seconds


@click.command()
@click.option("--front", type=FILE, help="Front of a document instead of the specimen.")
@click.option("--back", type=FILE, help="Back of a document instead of the specimen.")
@click.option("--face", type=FILE, help="Picture of a face instead of the specimen.")
@show_person_option
@json_option
def demo(*, front: Path | None, back: Path | None, face: Path | None, for_program: bool, show_person: bool) -> None:
    """Run the whole flow, from files to decision, against a local Veriff.

    Nothing leaves this machine. Pictures that you do not give are specimens of the package.
    """
    screen = Screen(progress_console(quiet=True) if for_program else result_console())
    outcome = run(run_demo({"document-front": front, "document-back": back, "face": face}, screen))
    if for_program:
        print_result(as_json(outcome, show_person=show_person))
        return
    screen.decision(outcome.decision, show_person=show_person)
    screen.story(outcome)


async def run_demo(files: Mapping[str, Path | None], screen: Screen) -> Outcome:
    """Verify the pictures against a fresh sandbox.

    Args:
        files: A file for each context; the specimen of the package stands in for ``None``.
        screen: Where to show progress.
    """
    with ExitStack() as unpacked:
        paths = {
            context: files.get(context) or unpacked.enter_context(specimen(f"{context}.jpg")) for context in CONTEXTS
        }
        media = [Media(path, context, filename=path.name) for context, path in paths.items()]
        size = sum(path.stat().st_size for path in paths.values())
        async with (
            Sandbox(decide_after=_DECIDE_AFTER) as box,
            VeriffClient(
                box.credentials,
                base_url=box.base_url,
                poll=PollPolicy(interval=0.2, backoff_factor=1.0, max_interval=0.2),
            ) as veriff,
        ):
            return await _verify(veriff, media, screen, size=size, base_url=box.base_url)


async def _verify(veriff: VeriffClient, media: list[Media], screen: Screen, *, size: int, base_url: str) -> Outcome:
    screen.say("Creating a session")
    session = await veriff.create_session(
        person=Person(first_name="Ada", last_name="Specimen"), vendor_data="veriff-async demo"
    )
    screen.say(f"Uploading {len(media)} pictures")
    started, sent = perf_counter(), _Counter()
    with screen.uploads(media) as shown:
        uploaded = await session.upload(*media, progress=sent.before(shown))
    uploaded_at = perf_counter()
    await session.submit()
    submitted_at = perf_counter()
    with screen.waiting("Waiting for the decision"):
        decision = await session.wait_for_decision(timeout=_PATIENCE)
    return Outcome(
        base_url=base_url,
        uploaded=tuple(uploaded),
        size=size,
        sent=sent.total,
        upload_seconds=uploaded_at - started,
        decision_seconds=perf_counter() - submitted_at,
        decision=decision,
    )


class _Counter:
    """Adds up the bodies, each once however often its upload is tried."""

    def __init__(self) -> None:
        self._bodies: dict[int, int] = {}

    @property
    def total(self) -> int:
        return sum(self._bodies.values())

    def before(self, shown: Callable[[UploadProgress], None]) -> Callable[[UploadProgress], None]:
        def update(event: UploadProgress) -> None:
            self._bodies[id(event.media)] = event.total_bytes
            shown(event)

        return update
