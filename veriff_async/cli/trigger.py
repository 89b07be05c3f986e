"""The trigger command: signed sample webhooks of every kind, posted as Veriff posts them."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import click
from attrs import evolve, frozen

from veriff_async import ConfigurationError, Credentials
from veriff_async._protocol.counts import format_count
from veriff_async._protocol.json.decode import load_object
from veriff_async._protocol.json.encode import dump_json
from veriff_async._protocol.validation import check_id
from veriff_async._protocol.webhook import kind_of
from veriff_async.cli._env_file import load_settings
from veriff_async.cli._http import HttpProbe, check_url
from veriff_async.cli._options import InputFile, env_file_option, json_option
from veriff_async.cli._runtime import ExitCode, print_json, run, stdout_output, warn
from veriff_async.cli._stdio import print_stderr
from veriff_async.cli.trigger_overrides import Override, override
from veriff_async.errors import DecodeError
from veriff_async.sandbox import SandboxOptions, WebhookKind
from veriff_async.sandbox._auth import webhook_headers
from veriff_async.sandbox._samples import STATUSES, SUBJECTS, Sample, samples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import IO

    from veriff_async.cli._http import ProbeResult

__all__ = ("SentSample", "choose_samples", "send_samples", "trigger")

_ALL: Final = "all"
# Bytes of a webhook: the limit of `WebhookReceiver`.
_MAX_BYTES: Final = 1024 * 1024
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
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="PATH=VALUE",
    help="Replace or add a member, for example verification.reasonCode=102; may be repeated.",
)
@click.option(
    "--body",
    "body_file",
    type=InputFile("rb", lazy=False),
    metavar="FILE",
    help="File with the whole JSON of a webhook to post instead of a sample, or - for standard input.",
)
@click.option("--list", "list_only", is_flag=True, help="List the kinds and their statuses, and send nothing.")
@env_file_option
@json_option
def trigger(  # noqa: PLR0913  one for each option
    *,
    kind: str | None,
    url: str | None,
    session_id: str | None,
    status: str | None,
    assignments: Sequence[str],
    body_file: IO[bytes] | None,
    list_only: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Post signed sample webhooks of one KIND, or of all of them (all), as Veriff would.

    They are signed with the credentials of the environment, so a receiver cannot distinguish them from Veriff's: send
    them to your own receiver only. Only a response with status 200 counts as accepted, and redirects are not followed.
    The exit code is 1 if one of them was not accepted.

    A value of --set is read as JSON, or else as text: 102, true, null, '{"a": 1}', declined; '"102"' is a text. Where
    the sample has a text, a number stays a text.
    """
    if list_only:
        _list(for_program=for_program)
        return
    overrides = [Override.parse(each) for each in assignments]
    if url is None or (kind is None and body_file is None):
        msg = "Give a KIND (or all), or --body, and where to post it with --to; --list shows the kinds."
        raise click.UsageError(msg)
    _check_choice(
        kind, is_whole=body_file is not None, is_chosen=bool(kind or session_id or status), sets=bool(overrides)
    )
    # A webhook in a file has a session of its own, or none.
    sample_session_id = None if body_file else check_id("--session", session_id) if session_id else str(uuid4())
    if body_file is not None or sample_session_id is None:
        chosen = [_read_sample(body_file)]
    else:
        chosen = choose_samples(_kinds(kind or "", status), session_id=sample_session_id, status=status)
    chosen = [_override(sample, overrides) for sample in chosen]
    credentials = Credentials.from_env(load_settings(env_file))
    output = stdout_output()

    def show(sent: SentSample) -> None:
        output.print(_line(sent), style=None if sent.result.is_accepted else "red")

    if sample_session_id is not None and not for_program:
        output.print(f"Session {sample_session_id}")
    sent = run(send_samples(chosen, url, credentials=credentials, on_sent=None if for_program else show))
    if for_program:
        print_json({"session_id": sample_session_id, "sent": [_document(each) for each in sent]})
    refused = sum(not each.result.is_accepted for each in sent)
    if refused:
        if not for_program:
            webhooks = format_count(len(sent), "webhook")
            print_stderr(f"{refused} of {webhooks} not accepted: only a response with status 200 counts.")
        sys.exit(ExitCode.REFUSED)


def _check_choice(kind: str | None, *, is_whole: bool, is_chosen: bool, sets: bool) -> None:
    if is_whole and is_chosen:
        msg = "--body is the whole webhook: leave KIND, --session and --status out, and change it with --set."
        raise click.UsageError(msg)
    if sets and kind == _ALL:
        msg = "--set needs one KIND: each kind has members of its own."
        raise click.UsageError(msg)


def choose_samples(kinds: Sequence[WebhookKind], *, session_id: str, status: str | None) -> list[Sample]:
    """Return the samples of some kinds; `status` is ignored for kinds that do not have it."""
    now = datetime.now(UTC)
    words = {kind: status if status in STATUSES.get(kind, ()) else None for kind in kinds}
    return [each for kind, word in words.items() for each in samples(kind, session_id=session_id, status=word, now=now)]


async def send_samples(
    chosen: Sequence[Sample],
    url: str,
    *,
    credentials: Credentials,
    on_sent: Callable[[SentSample], object] | None = None,
) -> list[SentSample]:
    """Post samples one after the other.

    Args:
        chosen: The samples.
        url: Address of the receiver.
        credentials: Sign the samples.
        on_sent: Called with each sample after its response.
    """
    results: list[SentSample] = []
    async with HttpProbe(_OPTIONS.webhook_timeout_seconds) as probe:
        for sample in chosen:
            body = dump_json(sample.body)
            sent = SentSample(sample, await probe.post(url, webhook_headers(credentials, body), body))
            if on_sent is not None:
                on_sent(sent)
            results.append(sent)
    return results


def _read_sample(file: IO[bytes] | None) -> Sample:
    """Read the webhook in a file."""
    data = b"" if file is None else file.read(_MAX_BYTES + 1)
    with suppress(DecodeError):
        if len(data) <= _MAX_BYTES:
            body = load_object(data)
            return Sample(kind_of(body).kind, None, body)
    msg = "The file of --body is not a JSON object: give the whole body of a webhook, as a receiver gets it."
    raise ConfigurationError(msg)


def _override(sample: Sample, overrides: Sequence[Override]) -> Sample:
    body, warnings = override(sample.body, overrides)
    for warning in warnings:
        warn(warning)
    return evolve(sample, body=body)


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
