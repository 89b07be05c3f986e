"""The trigger command: signed sample webhooks of every kind, posted as Veriff posts them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import click
from attrs import frozen

from veriff_async import Credentials
from veriff_async._protocol.validation import check_id
from veriff_async.cli._env_file import load_settings
from veriff_async.cli._http import HttpProbe, check_url
from veriff_async.cli._options import env_file_option, json_option
from veriff_async.cli._runtime import ExitCode, print_json, run, stdout_output
from veriff_async.cli._stdio import print_stderr
from veriff_async.cli.trigger_samples import STATUSES, SUBJECTS, samples
from veriff_async.sandbox import SandboxOptions, WebhookKind
from veriff_async.sandbox._webhooks import build_webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from veriff_async.cli._http import ProbeResult
    from veriff_async.cli.trigger_samples import Sample

__all__ = ("SentSample", "send_samples", "trigger")

_ALL: Final = "all"
_OPTIONS: Final = SandboxOptions()


@frozen
class SentSample:
    """A sample and the response of the receiver."""

    sample: Sample
    result: ProbeResult


@click.command()
@click.argument(
    "kind", type=click.Choice([*(str(kind.value) for kind in SUBJECTS), _ALL]), required=False, metavar="[KIND]"
)
@click.option("--to", "url", callback=check_url, metavar="URL", help="Where to post them.")
@click.option("--session", "session_id", metavar="ID", help="Session id in the samples; random by default.")
@click.option("--status", metavar="STATUS", help="Status in the samples, for example declined; see --list.")
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

    They are signed with the credentials of the environment, so a receiver cannot distinguish them from Veriff's: send
    them to your own receiver only. Only a response with status 200 counts as accepted, and redirects are not followed.
    The exit code is 1 if one of them was not accepted.
    """
    if list_only:
        _list(for_program=for_program)
        return
    if kind is None or url is None:
        msg = "Give a KIND (or all) and where to post it with --to; --list shows the kinds."
        raise click.UsageError(msg)
    kinds = _kinds(kind, status)
    credentials = Credentials.from_env(load_settings(env_file))
    sample_session_id = check_id("--session", session_id) if session_id else str(uuid4())
    output = stdout_output()

    def show(sent: SentSample) -> None:
        output.print(_line(sent), style=None if sent.result.is_accepted else "red")

    if not for_program:
        output.print(f"Session {sample_session_id}")
    on_sent = None if for_program else show
    sent = run(
        send_samples(kinds, url, credentials=credentials, session_id=sample_session_id, status=status, on_sent=on_sent)
    )
    if for_program:
        print_json({"session_id": sample_session_id, "sent": [_document(each) for each in sent]})
    refused = sum(not each.result.is_accepted for each in sent)
    if refused:
        if not for_program:
            print_stderr(f"{refused} of {len(sent)} webhooks not accepted: only a response with status 200 counts.")
        sys.exit(ExitCode.REFUSED)


async def send_samples(  # noqa: PLR0913  what a sample is made of
    kinds: Sequence[WebhookKind],
    url: str,
    *,
    credentials: Credentials,
    session_id: str,
    status: str | None,
    on_sent: Callable[[SentSample], object] | None = None,
) -> list[SentSample]:
    """Post samples one after the other.

    Args:
        kinds: Kinds of webhooks.
        url: Address of the receiver.
        credentials: Sign the samples.
        session_id: Session id in the samples.
        status: See `samples`; ignored for kinds that do not have it.
        on_sent: Called with each sample after its response.
    """
    results: list[SentSample] = []
    async with HttpProbe(_OPTIONS.webhook_timeout_seconds) as probe:
        for kind in kinds:
            now = datetime.now(UTC)
            word = status if status in STATUSES.get(kind, ()) else None
            for sample in samples(kind, session_id=session_id, status=word, now=now):
                webhook = build_webhook(url, sample.body, credentials=credentials, options=_OPTIONS, now=now)
                sent = SentSample(sample, await probe.post(url, webhook.headers, webhook.body))
                if on_sent is not None:
                    on_sent(sent)
                results.append(sent)
    return results


def _kinds(kind: str, status: str | None) -> tuple[WebhookKind, ...]:
    """Return the selected kinds. At least one of them must have the status."""
    kinds = tuple(SUBJECTS) if kind == _ALL else (WebhookKind(kind),)
    allowed = sorted({word for each in kinds for word in STATUSES.get(each, ())})
    if status is not None and status not in allowed:
        remedy = f"give one of {', '.join(allowed)}" if allowed else "leave it out"
        msg = f"Webhooks of the kind {kind} cannot have that --status: {remedy}."
        raise click.UsageError(msg)
    return kinds


def _list(*, for_program: bool) -> None:
    if for_program:
        rows = [
            {"kind": str(kind), "description": description, "statuses": [str(word) for word in STATUSES.get(kind, ())]}
            for kind, description in SUBJECTS.items()
        ]
        print_json({"kinds": rows})
        return
    output = stdout_output()
    for kind, description in SUBJECTS.items():
        output.print(f"{kind:<12} {description}")
        if kind in STATUSES:
            output.print(f"{'':<12} --status {', '.join(STATUSES[kind])}")


def _line(sent: SentSample) -> str:
    name = f"{sent.sample.kind} {sent.sample.status or ''}".rstrip()
    return f"{sent.result.status or '---'}  {sent.result.seconds * 1000:6.0f} ms  {name}{_remark(sent.result)}"


def _remark(result: ProbeResult) -> str:
    if result.status is None:
        return f": {result.problem}"
    if 300 <= result.status < 400:  # noqa: PLR2004  redirects
        return ": redirects are not followed"
    return "" if result.is_accepted else ": not accepted"


def _document(sent: SentSample) -> dict[str, object]:
    return {
        "kind": str(sent.sample.kind),
        "status": sent.sample.status and str(sent.sample.status),
        "accepted": sent.result.is_accepted,
        "http_status": sent.result.status,
        "problem": sent.result.problem or None,
        "seconds": round(sent.result.seconds, 4),
    }
