"""Signed sample webhooks of every kind, sent to an address as Veriff would."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import click
from attrs import frozen

from veriff_async import Credentials
from veriff_async._protocol.validation import check_id
from veriff_async.cli._exits import Exit
from veriff_async.cli._http import Poster, check_url
from veriff_async.cli._options import env_file_option, json_option
from veriff_async.cli._runtime import print_json, result_screen, run
from veriff_async.cli._settings import settings_from
from veriff_async.cli._streams import say
from veriff_async.cli.trigger_samples import STATUSES, SUBJECTS, samples
from veriff_async.sandbox import SandboxOptions, WebhookKind
from veriff_async.sandbox._webhooks import build_webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from veriff_async.cli._http import Answered
    from veriff_async.cli.trigger_samples import Sample

__all__ = ("Sent", "send_samples", "trigger")

_ALL: Final = "all"
_OPTIONS: Final = SandboxOptions()


@frozen
class Sent:
    """A sample, and what the receiver said to it."""

    sample: Sample
    answer: Answered


@click.command()
@click.argument(
    "kind", type=click.Choice([*(str(kind.value) for kind in SUBJECTS), _ALL]), required=False, metavar="[KIND]"
)
@click.option("--to", "url", callback=check_url, metavar="URL", help="Where to post them.")
@click.option("--session", "session_id", metavar="ID", help="The session that they tell of; a made-up one otherwise.")
@click.option("--status", metavar="STATUS", help="The status that they tell of, for example declined; see --list.")
@click.option("--list", "list_only", is_flag=True, help="List the kinds and their statuses, and send nothing.")
@env_file_option
@json_option
def trigger(  # noqa: PLR0913  one for each option
    *,
    kind: str | None,
    url: str | None,
    session_id: str | None,
    status: str | None,
    list_only: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Post signed sample webhooks of one KIND, or of all of them (all), as Veriff would.

    They are signed with the credentials of the environment, so the receiver cannot tell them from Veriff's: send them
    to a receiver of your own. Only the answer 200 counts as taken, and a redirect is not followed. The exit code is 1
    when one of them was not taken.
    """
    if list_only:
        _list(for_program=for_program)
        return
    if kind is None or url is None:
        msg = "Give a KIND (or all) and where to post it with --to; --list shows the kinds."
        raise click.UsageError(msg)
    kinds = _kinds(kind, status)
    credentials = Credentials.from_env(settings_from(env_file))
    told_of = check_id("--session", session_id) if session_id else str(uuid4())
    screen = result_screen()

    def show(sent: Sent) -> None:
        screen.say(_line(sent), style=None if sent.answer.is_taken else "red")

    if not for_program:
        screen.say(f"Session {told_of}")
    tell = None if for_program else show
    sent = run(send_samples(kinds, url, credentials=credentials, session_id=told_of, status=status, show=tell))
    if for_program:
        print_json({"session_id": told_of, "sent": [_document(each) for each in sent]})
    refused = sum(not each.answer.is_taken for each in sent)
    if refused:
        if not for_program:
            say(f"{refused} of {len(sent)} webhooks not taken: only the answer 200 counts.")
        sys.exit(Exit.REFUSED)


async def send_samples(  # noqa: PLR0913  what a sample is made of
    kinds: Sequence[WebhookKind],
    url: str,
    *,
    credentials: Credentials,
    session_id: str,
    status: str | None,
    show: Callable[[Sent], object] | None = None,
) -> list[Sent]:
    """Post samples one after the other.

    Args:
        kinds: Which.
        url: Where to.
        credentials: Who signs them.
        session_id: Whom they tell of.
        status: See `samples`; left out for kinds that do not have it.
        show: Called with each as soon as it was answered.
    """
    done: list[Sent] = []
    async with Poster(_OPTIONS.webhook_timeout_seconds) as poster:
        for kind in kinds:
            now = datetime.now(UTC)
            word = status if status in STATUSES.get(kind, ()) else None
            for sample in samples(kind, session_id=session_id, status=word, now=now):
                webhook = build_webhook(url, sample.body, credentials=credentials, options=_OPTIONS, now=now)
                sent = Sent(sample, await poster.post(url, webhook.headers, webhook.body))
                if show is not None:
                    show(sent)
                done.append(sent)
    return done


def _kinds(kind: str, status: str | None) -> tuple[WebhookKind, ...]:
    """Return which kinds are meant; a status must be one of at least one of them."""
    kinds = tuple(SUBJECTS) if kind == _ALL else (WebhookKind(kind),)
    known = sorted({each for one in kinds for each in STATUSES.get(one, ())})
    if status is not None and status not in known:
        words = f"it has one of {', '.join(known)}" if known else "it has none to choose"
        msg = f"A webhook of the kind {kind} cannot tell of that --status: {words}."
        raise click.UsageError(msg)
    return kinds


def _list(*, for_program: bool) -> None:
    if for_program:
        rows = [
            {"kind": str(kind), "tells": tells, "statuses": [str(word) for word in STATUSES.get(kind, ())]}
            for kind, tells in SUBJECTS.items()
        ]
        print_json({"kinds": rows})
        return
    screen = result_screen()
    for kind, tells in SUBJECTS.items():
        screen.say(f"{kind:<12} {tells}")
        if kind in STATUSES:
            screen.say(f"{'':<12} --status {', '.join(STATUSES[kind])}")


def _line(sent: Sent) -> str:
    name = f"{sent.sample.kind} {sent.sample.status or ''}".rstrip()
    return f"{sent.answer.status or '---'}  {sent.answer.seconds * 1000:6.0f} ms  {name}{_remark(sent.answer)}"


def _remark(answer: Answered) -> str:
    if answer.status is None:
        return f": {answer.problem}"
    if 300 <= answer.status < 400:  # noqa: PLR2004  redirects
        return ": a redirect, which is not followed"
    return "" if answer.is_taken else ": not taken"


def _document(sent: Sent) -> dict[str, object]:
    return {
        "kind": str(sent.sample.kind),
        "status": sent.sample.status and str(sent.sample.status),
        "taken": sent.answer.is_taken,
        "http_status": sent.answer.status,
        "problem": sent.answer.problem or None,
        "seconds": round(sent.answer.seconds, 4),
    }
