"""The doctor command: checks everything between a program and Veriff, and suggests remedies."""

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
from veriff_async._protocol.authenticity import parse_auth_headers
from veriff_async._protocol.headers import HMAC_SIGNATURE
from veriff_async._protocol.json.decode import dump, load_object
from veriff_async._protocol.response import Response, api_error, check_authenticity
from veriff_async.cli._env_file import load_settings
from veriff_async.cli._http import HttpProbe, check_url
from veriff_async.cli._options import env_file_option, json_option, proxy_option
from veriff_async.cli._runtime import ExitCode, current_command, print_json, run, stdout_output
from veriff_async.cli.doctor import checks
from veriff_async.cli.doctor.checks import CheckOutcome, CheckResult
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
    from veriff_async.cli._http import ProbeResult

__all__ = ("diagnose", "doctor")

_SECONDS: Final = 10.0
"""Time limit of one request, in seconds."""

_WEBHOOK: Final = ("webhook address", "webhook signed", "webhook unsigned", "webhook forged")
_NO_SECRET: Final = "00000000-0000-4000-8000-000000000000"  # noqa: S105  not a real secret
_STYLES: Final = {
    CheckOutcome.OK: "green",
    CheckOutcome.WARNING: "yellow",
    CheckOutcome.FAILED: "bold red",
    CheckOutcome.SKIPPED: "dim",
}
_HTTPS: Final = 443


@click.command()
@click.option(
    "--webhook-url",
    callback=check_url,
    metavar="URL",
    help="Test a receiver too: it must accept a signed sample and refuse forged ones.",
)
@proxy_option
@env_file_option
@json_option
def doctor(*, webhook_url: str | None, env_file: Path | None, for_program: bool) -> None:
    """Check everything between this machine and Veriff, and suggest remedies.

    Nothing is created: the requests ask for the decision of a session that does not exist, with each secret and once
    with a wrong signature. The exit code is 1 if a check failed.
    """
    output = stdout_output()
    environ, proxied = load_settings(env_file), current_command().proxy is not None

    async def work() -> list[CheckResult]:
        collected: list[CheckResult] = []
        async with aclosing(diagnose(environ, webhook_url=webhook_url, proxied=proxied)) as checks:
            async for result in checks:
                collected.append(result)
                if not for_program:
                    name = f"{result.outcome:<8} {result.name:<18} "
                    output.print(name + result.message, style=_STYLES[result.outcome], indent=len(name))
        return collected

    results = run(work())
    failed = [result for result in results if result.outcome is CheckOutcome.FAILED]
    if for_program:
        rows = [{"name": each.name, "outcome": str(each.outcome), "message": each.message} for each in results]
        print_json({"ok": not failed, "results": rows})
    else:
        output.print(f"\n{_summary(results)}")
    if failed:
        sys.exit(ExitCode.REFUSED)


async def diagnose(
    environ: Mapping[str, str], *, webhook_url: str | None = None, proxied: bool = False
) -> AsyncGenerator[CheckResult]:
    """Yield the results of all checks, in order.

    Args:
        environ: The variables.
        webhook_url: Address of a receiver to test too.
        proxied: Whether to use the proxy of the environment.
    """
    yield await to_thread.run_sync(_versions)
    variables, credentials, root = checks.check_variables(environ)
    yield checks.check_signing(credentials)
    for result in variables:
        yield result
    # From the environment even with --env-file: a proxy belongs to the machine, not to an integration.
    yield checks.check_proxies(os.environ, used=proxied)
    is_reached = root is not None
    if root is None or proxied:
        for name in ("name", "connection", "tls"):
            yield CheckResult.skip(name, "the base URL is missing" if root is None else "the proxy connects")
    else:
        async with aclosing(reach(root)) as steps:
            async for result in steps:
                is_reached = is_reached and result.outcome is not CheckOutcome.FAILED
                yield result
    async with HttpProbe(_SECONDS, trust_env=proxied) as probe:
        if root is None or not is_reached or credentials is None:
            because = "Veriff is not reachable" if credentials is not None else "the credentials are missing"
            for name in ("response", "clock", "credentials", "response signature", "other secrets"):
                yield CheckResult.skip(name, because)
        else:
            async with aclosing(_check_api(probe, root, credentials)) as results:
                async for result in results:
                    yield result
        if webhook_url is not None:
            async with aclosing(_check_webhook(probe, webhook_url, credentials)) as results:
                async for result in results:
                    yield result


async def _check_api(probe: HttpProbe, root: str, credentials: Credentials) -> AsyncGenerator[CheckResult]:
    """Request the decision of a session that does not exist."""
    # A random id: such a session does not exist, so the request reads and changes nothing.
    request = endpoints.decision(str(uuid4())).sign(credentials)
    probed = await _send(probe, root, request)
    if probed.status is None:
        yield CheckResult("response", CheckOutcome.FAILED, f"No response from {root}: {probed.problem}.")
        for name in ("clock", "credentials", "response signature", "other secrets"):
            yield CheckResult.skip(name, "Veriff did not respond")
        return
    yield CheckResult("response", CheckOutcome.OK, f"HTTP {probed.status} in {probed.seconds * 1000:.0f} ms.")
    date = probed.headers.get("Date")
    yield checks.check_clock(date, now=datetime.now(UTC), seconds=probed.seconds)
    found = _evaluate(request, probed)
    is_accepted = found.outcome is CheckOutcome.OK
    if is_accepted:
        found = await _compare_with_wrong_signature(probe, root, request, found)
    yield found
    yield (
        _check_response_signature(request, probed)
        if is_accepted
        else CheckResult.skip("response signature", "the credentials are not accepted")
    )
    if len(credentials.secrets) == 1:
        yield CheckResult.skip("other secrets", "there is only one secret")
    else:
        yield await _check_other_secrets(probe, root, credentials, is_first_accepted=is_accepted)


async def _send(probe: HttpProbe, root: str, request: Request) -> ProbeResult:
    return await probe.get(root + request.path, request.headers)


def _evaluate(request: Request, probed: ProbeResult) -> CheckResult:
    status = probed.status or 0
    # Any web server answers 404; Veriff answers in JSON, and signs some of its responses.
    is_veriffs = bool(_json(probed)) or parse_auth_headers(probed.headers).signature is not None
    return checks.check_credentials(status, _code(request, probed), is_veriffs=is_veriffs)


def _code(request: Request, probed: ProbeResult) -> str | None:
    return api_error(_response(request, probed)).code


def _response(request: Request, probed: ProbeResult) -> Response:
    return Response(request=request, status=probed.status or 0, headers=probed.headers, body=probed.body)


async def _compare_with_wrong_signature(
    probe: HttpProbe, root: str, request: Request, found: CheckResult
) -> CheckResult:
    """Send the same request with a wrong signature."""
    # Only one digit differs: the value of the signature is wrong, and its form is right.
    last = request.headers[HMAC_SIGNATURE]
    wrong = last[:-1] + ("0" if last[-1] != "0" else "1")
    probed = await probe.get(root + request.path, {**request.headers, HMAC_SIGNATURE: wrong})
    return checks.check_signature_required(found, probed.status, _code(request, probed))


def _check_response_signature(request: Request, probed: ProbeResult) -> CheckResult:
    """Check the signature of the response, if there is one."""
    name = "response signature"
    if parse_auth_headers(probed.headers).signature is None:
        message = "The response is not signed. That is fine: whether Veriff signs refusals is not documented."
        return CheckResult(name, CheckOutcome.SKIPPED, message)
    try:
        check_authenticity(_response(request, probed))
    except ResponseError as error:
        problems = "; ".join(error.problems)
        message = (
            f"The response does not come from this integration ({problems}): look for a proxy, and give all secrets."
        )
        return CheckResult(name, CheckOutcome.FAILED, message)
    return CheckResult(name, CheckOutcome.OK, "The response is signed with the secret that signed the request.")


async def _check_other_secrets(
    probe: HttpProbe, root: str, credentials: Credentials, *, is_first_accepted: bool
) -> CheckResult:
    refused: list[int] = []
    unclear: list[int] = []
    for index in range(1, len(credentials.secrets)):
        request = endpoints.decision(str(uuid4())).sign(credentials.with_signing_secret(index))
        probed = await _send(probe, root, request)
        outcome = CheckOutcome.WARNING if probed.status is None else _evaluate(request, probed).outcome
        if outcome is not CheckOutcome.OK:
            (refused if outcome is CheckOutcome.FAILED else unclear).append(index + 1)
    return checks.check_other_secrets(refused, unclear, len(credentials.secrets), is_first_accepted=is_first_accepted)


async def _check_webhook(probe: HttpProbe, url: str, credentials: Credentials | None) -> AsyncGenerator[CheckResult]:
    """Post a sample to a receiver: signed, unsigned, and signed with a wrong secret."""
    address, signed, unsigned, forged = _WEBHOOK
    yield _address(address, url)
    if credentials is None:
        for name in (signed, unsigned, forged):
            yield CheckResult.skip(name, "the credentials are missing")
        return
    now = datetime.now(UTC)
    sample, _ = samples(WebhookKind.EVENT, session_id=str(uuid4()), status=None, now=now)
    options = SandboxOptions()
    right = build_webhook(url, sample.body, credentials=credentials, options=options, now=now)
    wrong = build_webhook(url, sample.body, credentials=_wrong_credentials(credentials), options=options, now=now)
    plain = {name: value for name, value in right.headers.items() if "signature" not in name}
    taken = await probe.post(url, right.headers, right.body)
    yield checks.check_receiver(signed, taken.status, taken.problem, is_signed=True)
    for name, headers in ((unsigned, plain), (forged, wrong.headers)):
        if taken.status is None:
            yield CheckResult.skip(name, "the receiver is not reachable")
            continue
        probed = await probe.post(url, headers, dump(sample.body))
        yield checks.check_receiver(name, probed.status, probed.problem, is_signed=False)


def _wrong_credentials(credentials: Credentials) -> Credentials:
    """Return the same credentials with a wrong secret."""
    return Credentials(credentials.api_key, _NO_SECRET, integration_id=credentials.integration_id)


def _address(name: str, url: str) -> CheckResult:
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_address = ":" in host or host.replace(".", "").isdigit()
    if parts.scheme == "https" and parts.port in {None, _HTTPS} and not is_address and host != "localhost":
        return CheckResult(
            name, CheckOutcome.OK, "https, the default port and a host name: Veriff accepts this address."
        )
    message = (
        "Veriff accepts only https with a host name, port 443 and a publicly trusted certificate: this address works "
        "for development, but not in the Customer Portal."
    )
    return CheckResult(name, CheckOutcome.WARNING, message)


def _versions() -> CheckResult:
    names = ("aiohttp", "anyio", "attrs", "cattrs", "pybase64")
    try:
        required = metadata.requires("veriff-async") or []
        found = {name: metadata.version(name) for name in names}
    except metadata.PackageNotFoundError:
        # Copied instead of installed: metadata is missing.
        required, found = [], {}
    return checks.check_versions(platform.python_version(), {"veriff-async": __version__, **found}, required)


def _json(probed: ProbeResult) -> Mapping[str, object]:
    try:
        return load_object(probed.body)
    except DecodeError:
        return EMPTY


def _summary(results: list[CheckResult]) -> str:
    counts = {outcome: sum(result.outcome is outcome for result in results) for outcome in CheckOutcome}
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    if counts[CheckOutcome.FAILED]:
        first = next(result for result in results if result.outcome is CheckOutcome.FAILED)
        return f"{words}. Start with: {first.name}."
    return f"{words}."
