"""Everything between a program and Veriff looked at, step by step: what is wrong, and what to do."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import aclosing
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import uuid4

import click
from anyio import to_thread

from veriff_async import Credentials, ResponseError
from veriff_async._protocol import endpoints
from veriff_async._protocol.authenticity import claim_of
from veriff_async._protocol.headers import HMAC_SIGNATURE
from veriff_async._protocol.json.decode import dump, load_object
from veriff_async._protocol.response import Response, api_error, check_authenticity
from veriff_async.cli._exits import Exit
from veriff_async.cli._http import Poster, check_url
from veriff_async.cli._options import env_file_option, json_option, proxy_option
from veriff_async.cli._runtime import course, print_json, result_screen, run
from veriff_async.cli._settings import settings_from
from veriff_async.cli.doctor import checks
from veriff_async.cli.doctor.checks import Finding, Outcome
from veriff_async.cli.doctor.network import reach
from veriff_async.cli.trigger_samples import samples
from veriff_async.errors import DecodeError
from veriff_async.models.json import EMPTY
from veriff_async.sandbox import SandboxOptions, WebhookKind
from veriff_async.sandbox._webhooks import build_webhook
from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from veriff_async._protocol.request import Request
    from veriff_async.cli._http import Answered

__all__ = ("diagnose", "doctor")

_SECONDS: Final = 10.0
"""Seconds that Veriff has for an answer."""

_WEBHOOK: Final = ("webhook address", "webhook signed", "webhook unsigned", "webhook forged")
_NO_SECRET: Final = "00000000-0000-4000-8000-000000000000"  # noqa: S105  nobody's
_STYLES: Final = {
    Outcome.OK: "green",
    Outcome.WARNING: "yellow",
    Outcome.FAILED: "bold red",
    Outcome.SKIPPED: "dim",
}
_HTTPS: Final = 443


@click.command()
@click.option(
    "--webhook-url",
    callback=check_url,
    metavar="URL",
    help="Try a receiver too: it must take a signed sample, and refuse one that is not signed rightly.",
)
@proxy_option
@env_file_option
@json_option
def doctor(*, webhook_url: str | None, env_file: Path | None, for_program: bool) -> None:
    """Check everything between here and Veriff, and say what is wrong and what to do.

    Nothing is created: Veriff is asked for the decision of a session that nobody has, with each secret and once with a
    wrong signature. The exit code is 1 when a check failed.
    """
    screen = result_screen()
    environ, proxied = settings_from(env_file), course().proxy is not None

    async def work() -> list[Finding]:
        found: list[Finding] = []
        async with aclosing(diagnose(environ, webhook_url=webhook_url, proxied=proxied)) as checks:
            async for finding in checks:
                found.append(finding)
                if not for_program:
                    name = f"{finding.outcome:<8} {finding.name:<17} "
                    screen.say(name + finding.says, style=_STYLES[finding.outcome], indent=len(name))
        return found

    found = run(work())
    failed = [finding for finding in found if finding.outcome is Outcome.FAILED]
    if for_program:
        rows = [{"name": each.name, "outcome": str(each.outcome), "says": each.says} for each in found]
        print_json({"ok": not failed, "findings": rows})
    else:
        screen.say(f"\n{_summary(found)}")
    if failed:
        sys.exit(Exit.REFUSED)


async def diagnose(
    environ: Mapping[str, str], *, webhook_url: str | None = None, proxied: bool = False
) -> AsyncGenerator[Finding]:
    """Yield the findings of all checks, in their order.

    Args:
        environ: The variables.
        webhook_url: A receiver to be tried too.
        proxied: Whether the proxy of the environment is used.
    """
    yield await to_thread.run_sync(_versions)
    variables, credentials, root = checks.of_variables(environ)
    yield checks.of_signing(credentials)
    for finding in variables:
        yield finding
    # A file of settings stands alone, but a proxy is of this machine.
    yield checks.proxies(os.environ, used=proxied)
    is_reached = root is not None
    if root is None or proxied:
        for name in ("name", "connection", "tls"):
            yield Finding.skipped(name, "there is no address" if root is None else "the proxy connects")
    else:
        async with aclosing(reach(root)) as steps:
            async for finding in steps:
                is_reached = is_reached and finding.outcome is not Outcome.FAILED
                yield finding
    async with Poster(_SECONDS, trust_env=proxied) as poster:
        if root is None or not is_reached or credentials is None:
            because = "Veriff is not reached" if credentials is not None else "there are no credentials to ask with"
            for name in ("answer", "clock", "credentials", "answer signature", "other secrets"):
                yield Finding.skipped(name, because)
        else:
            async with aclosing(_asked(poster, root, credentials)) as answers:
                async for finding in answers:
                    yield finding
        if webhook_url is not None:
            async with aclosing(_received(poster, webhook_url, credentials)) as answers:
                async for finding in answers:
                    yield finding


async def _asked(poster: Poster, root: str, credentials: Credentials) -> AsyncGenerator[Finding]:
    """Ask for the decision of a session that nobody has."""
    request = endpoints.decision(str(uuid4())).sign(credentials)
    answered = await _ask(poster, root, request)
    if answered.status is None:
        yield Finding("answer", Outcome.FAILED, f"No answer from {root}: {answered.problem}.")
        for name in ("clock", "credentials", "answer signature", "other secrets"):
            yield Finding.skipped(name, "no answer came")
        return
    yield Finding("answer", Outcome.OK, f"HTTP {answered.status} in {answered.seconds * 1000:.0f} ms.")
    date = answered.headers.get("Date")
    yield checks.clock(date, now=datetime.now(UTC), seconds=answered.seconds)
    found = _judged(request, answered)
    is_accepted = found.outcome is Outcome.OK
    if is_accepted:
        found = await _contrasted(poster, root, request, found)
    yield found
    yield _signature(request, answered) if is_accepted else Finding.skipped("answer signature", "they are not accepted")
    if len(credentials.secrets) == 1:
        yield Finding.skipped("other secrets", "there is one secret only")
    else:
        yield await _others(poster, root, credentials, is_first_accepted=is_accepted)


async def _ask(poster: Poster, root: str, request: Request) -> Answered:
    return await poster.get(root + request.path, request.headers)


def _judged(request: Request, answered: Answered) -> Finding:
    status = answered.status or 0
    # A web server that is not Veriff's says 404 to everything; Veriff answers in JSON, and signs some of its answers.
    is_veriffs = bool(_json(answered)) or claim_of(answered.headers).signature is not None
    return checks.of_decision(status, _code(request, answered), is_veriffs=is_veriffs)


def _code(request: Request, answered: Answered) -> str | None:
    return api_error(_answer(request, answered)).code


def _answer(request: Request, answered: Answered) -> Response:
    return Response(request=request, status=answered.status or 0, headers=answered.headers, body=answered.body)


async def _contrasted(poster: Poster, root: str, request: Request, found: Finding) -> Finding:
    """Send the same request with a signature that is surely wrong."""
    last = request.headers[HMAC_SIGNATURE]
    wrong = last[:-1] + ("0" if last[-1] != "0" else "1")
    answered = await poster.get(root + request.path, {**request.headers, HMAC_SIGNATURE: wrong})
    return checks.of_contrast(found, answered.status, _code(request, answered))


def _signature(request: Request, answered: Answered) -> Finding:
    """Check who signed the answer, if anybody did."""
    name = "answer signature"
    if claim_of(answered.headers).signature is None:
        says = "The answer is not signed, which is no fault: whether Veriff signs its refusals is not documented."
        return Finding(name, Outcome.SKIPPED, says)
    try:
        check_authenticity(_answer(request, answered))
    except ResponseError as error:
        problems = "; ".join(error.problems)
        says = f"The answer is not the integration's ({problems}): look who stands between, and give every live secret."
        return Finding(name, Outcome.FAILED, says)
    return Finding(name, Outcome.OK, "The answer is signed with the secret that signed the request.")


async def _others(poster: Poster, root: str, credentials: Credentials, *, is_first_accepted: bool) -> Finding:
    refused: list[int] = []
    unclear: list[int] = []
    for place in range(1, len(credentials.secrets)):
        request = endpoints.decision(str(uuid4())).sign(credentials.with_signing_secret(place))
        answered = await _ask(poster, root, request)
        outcome = Outcome.WARNING if answered.status is None else _judged(request, answered).outcome
        if outcome is not Outcome.OK:
            (refused if outcome is Outcome.FAILED else unclear).append(place + 1)
    return checks.rotation(refused, unclear, len(credentials.secrets), is_first_accepted=is_first_accepted)


async def _received(poster: Poster, url: str, credentials: Credentials | None) -> AsyncGenerator[Finding]:
    """Post a sample to a receiver: signed, unsigned, and signed with a secret that nobody has."""
    address, signed, unsigned, forged = _WEBHOOK
    yield _address(address, url)
    if credentials is None:
        for name in (signed, unsigned, forged):
            yield Finding.skipped(name, "there are no credentials to sign with")
        return
    now = datetime.now(UTC)
    sample, _ = samples(WebhookKind.EVENT, session_id=str(uuid4()), status=None, now=now)
    options = SandboxOptions()
    right = build_webhook(url, sample.body, credentials=credentials, options=options, now=now)
    wrong = build_webhook(url, sample.body, credentials=_nobody(credentials), options=options, now=now)
    plain = {name: value for name, value in right.headers.items() if "signature" not in name}
    taken = await poster.post(url, right.headers, right.body)
    yield checks.of_webhook(signed, taken.status, taken.problem, should_be_taken=True)
    for name, headers in ((unsigned, plain), (forged, wrong.headers)):
        if taken.status is None:
            yield Finding.skipped(name, "the receiver is not reached")
            continue
        answered = await poster.post(url, headers, dump(sample.body))
        yield checks.of_webhook(name, answered.status, answered.problem, should_be_taken=False)


def _nobody(credentials: Credentials) -> Credentials:
    """Return the same integration with a secret that nobody has."""
    return Credentials(credentials.api_key, _NO_SECRET, integration_id=credentials.integration_id)


def _address(name: str, url: str) -> Finding:
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_address = ":" in host or host.replace(".", "").isdigit()
    if parts.scheme == "https" and parts.port in {None, _HTTPS} and not is_address and host != "localhost":
        return Finding(name, Outcome.OK, "https, the usual port, and a host name: an address that Veriff takes.")
    says = (
        "Veriff takes https with a host name and port 443 only, and a certificate that everybody trusts: good for "
        "development, and not for the Customer Portal."
    )
    return Finding(name, Outcome.WARNING, says)


def _versions() -> Finding:
    names = ("aiohttp", "anyio", "attrs", "cattrs", "pybase64")
    try:
        required = metadata.requires("veriff-async") or []
        found = {name: metadata.version(name) for name in names}
    except metadata.PackageNotFoundError:
        # A package that was copied rather than installed has no metadata to compare.
        required, found = [], {}
    return checks.of_versions(platform.python_version(), {"veriff-async": __version__, **found}, required)


def _json(answered: Answered) -> Mapping[str, object]:
    try:
        return load_object(answered.body)
    except DecodeError:
        return EMPTY


def _summary(found: list[Finding]) -> str:
    counts = {outcome: sum(finding.outcome is outcome for finding in found) for outcome in Outcome}
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    if counts[Outcome.FAILED]:
        first = next(finding for finding in found if finding.outcome is Outcome.FAILED)
        return f"{words}. Begin with: {first.name}."
    return f"{words}."
