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

from veriff_async import Credentials
from veriff_async._http.ca_bundle import ca_bundle_from, create_context
from veriff_async._protocol import endpoints, health
from veriff_async._protocol.headers import HMAC_SIGNATURE
from veriff_async._protocol.json.encode import dump_json
from veriff_async._protocol.response import Response
from veriff_async.cli._env_file import load_settings
from veriff_async.cli._http import HttpProbe, check_url
from veriff_async.cli._options import env_file_option, json_option, proxy_option
from veriff_async.cli._runtime import ExitCode, current_command, print_json, run, stdout_output
from veriff_async.cli.doctor import checks
from veriff_async.cli.doctor.network import reach
from veriff_async.health import CheckOutcome, CheckResult
from veriff_async.sandbox import WebhookKind
from veriff_async.sandbox._auth import webhook_headers
from veriff_async.sandbox._samples import samples
from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from veriff_async._protocol.request import Request
    from veriff_async.cli._http import ProbeResult

__all__ = ("diagnose", "doctor")

# Time limit of one request, in seconds.
_SECONDS: Final = 10.0

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
        print_json({"ok": not failed, "results": [result.to_dict() for result in results]})
    else:
        output.print(f"\n{_summary(results)}")
    if failed:
        sys.exit(ExitCode.REFUSED)


async def diagnose(
    environ: Mapping[str, str], *, webhook_url: str | None = None, proxied: bool = False
) -> AsyncGenerator[CheckResult]:
    """Yield the results of all checks, in order."""
    yield await to_thread.run_sync(_versions)
    # It reads the trusted certificates from the disk, which would block the event loop.
    tls = await to_thread.run_sync(create_context, ca_bundle_from(environ))
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
        async with aclosing(reach(root, tls)) as steps:
            async for result in steps:
                is_reached = is_reached and result.outcome is not CheckOutcome.FAILED
                yield result
    async with HttpProbe(_SECONDS, trust_env=proxied, tls=tls) as probe:
        if root is None or not is_reached or credentials is None:
            because = "Veriff is not reachable" if credentials is not None else "the credentials are missing"
            for name in (*health.CHECKS, "other secrets"):
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
        for name in (*health.CHECKS[1:], "other secrets"):
            yield CheckResult.skip(name, "Veriff did not respond")
        return
    is_accepted = False
    report = health.report_response(
        _response(request, probed), now=datetime.now(UTC), seconds=probed.seconds, max_skew=health.MAX_SKEW
    )
    for result in report.results:
        if result.name == "credentials" and result.outcome is CheckOutcome.OK:
            is_accepted = True
            yield await _compare_with_wrong_signature(probe, root, request, result)
        else:
            yield result
    if len(credentials.secrets) == 1:
        yield CheckResult.skip("other secrets", "there is only one secret")
    else:
        yield await _check_other_secrets(probe, root, credentials, is_first_accepted=is_accepted)


async def _send(probe: HttpProbe, root: str, request: Request) -> ProbeResult:
    return await probe.get(root + request.path, request.headers)


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
    return health.check_signature_required(found, None if probed.status is None else _response(request, probed))


async def _check_other_secrets(
    probe: HttpProbe, root: str, credentials: Credentials, *, is_first_accepted: bool
) -> CheckResult:
    refused: list[int] = []
    unclear: list[int] = []
    for index in range(1, len(credentials.secrets)):
        request = endpoints.decision(str(uuid4())).sign(credentials.with_signing_secret(index))
        probed = await _send(probe, root, request)
        outcome = (
            CheckOutcome.WARNING
            if probed.status is None
            else health.check_credentials(_response(request, probed)).outcome
        )
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
    body = dump_json(sample.body)
    right = webhook_headers(credentials, body)
    wrong = webhook_headers(_wrong_credentials(credentials), body)
    plain = {name: value for name, value in right.items() if "signature" not in name}
    taken = await probe.post(url, right, body)
    yield checks.check_receiver(signed, taken.status, taken.problem, is_signed=True)
    for name, headers in ((unsigned, plain), (forged, wrong)):
        if taken.status is None:
            yield CheckResult.skip(name, "the receiver is not reachable")
            continue
        probed = await probe.post(url, headers, body)
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


def _summary(results: list[CheckResult]) -> str:
    counts = {outcome: sum(result.outcome is outcome for result in results) for outcome in CheckOutcome}
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    if counts[CheckOutcome.FAILED]:
        first = next(result for result in results if result.outcome is CheckOutcome.FAILED)
        return f"{words}. Start with: {first.name}."
    return f"{words}."
