"""The checks of the doctor: each result has one sentence with its remedy. Pure; results never contain secrets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from uuid import UUID

from veriff_async import ConfigurationError, Credentials
from veriff_async._protocol import health
from veriff_async._protocol.base_url import deprecation, insecure_hosts, insecure_hosts_from, parse_root
from veriff_async._protocol.counts import format_count
from veriff_async._protocol.health import PORTAL
from veriff_async.client import BASE_URL_VARIABLE
from veriff_async.credentials import API_KEY_VARIABLE, INTEGRATION_VARIABLE, SECRET_VARIABLE
from veriff_async.health import CheckOutcome, CheckResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = (
    "CHECKS",
    "check_other_secrets",
    "check_proxies",
    "check_receiver",
    "check_signing",
    "check_variables",
    "check_versions",
)

# A published example of a signature: shared secret (not in use), session id, HMAC-SHA256.
_VECTOR: Final = (
    "abcdef12-abcd-abcd-abcd-abcdef012345",
    b"aea9ba6d-1b47-47fc-a4fc-f72b6d3584a7",
    "895cb3fd31139d89aeb7b263682e15479ab57651e70591256ad2c14fde4950dd",
)

_PROXIES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY")
_NUMBERS: Final = re.compile(r"([A-Za-z0-9_.-]+)>=([\d.]+)")

CHECKS: Final = (
    "versions",
    "signing",
    "api key",
    "shared secret",
    "integration id",
    "base url",
    "proxies",
    "name",
    "connection",
    "tls",
    *health.CHECKS,
    "other secrets",
)
"""Names of all checks, in order; ``--webhook-url`` adds some."""


def check_versions(python: str, found: Mapping[str, str], required: Iterable[str]) -> CheckResult:
    """Compare installed versions with the requirements of the package."""
    old: list[str] = []
    for line in required:
        match = _NUMBERS.match(line)
        if match and "extra ==" not in line and match[1] in found and _parts(found[match[1]]) < _parts(match[2]):
            old.append(f"{match[1]} {found[match[1]]}, at least {match[2]} is needed")
    shown = ", ".join(f"{name} {found[name]}" for name in ("veriff-async", "aiohttp") if name in found)
    if old:
        return CheckResult("versions", CheckOutcome.FAILED, f"Too old: {'; '.join(old)}: upgrade with pip install -U.")
    return CheckResult("versions", CheckOutcome.OK, f"Python {python}, {shown}.")


def check_signing(credentials: Credentials | None) -> CheckResult:
    """Sign and verify a published example, then a text with the configured secrets."""
    secret, text, signature = _VECTOR
    is_right = Credentials("example", secret).sign(text) == signature
    if credentials is not None:
        is_right = is_right and credentials.verify(text, credentials.sign(text)) == 0
    if is_right:
        own = "and the configured secret verifies its own signatures" if credentials else "no configured secret to try"
        return CheckResult("signing", CheckOutcome.OK, f"A published example gets the right signature, {own}.")
    return CheckResult("signing", CheckOutcome.FAILED, "HMAC-SHA256 is wrong here: reinstall Python and veriff-async.")


def check_variables(environ: Mapping[str, str]) -> tuple[list[CheckResult], Credentials | None, str | None]:
    """Check the environment variables.

    Returns:
        The results, and the credentials and the root of the base URL if they are usable.
    """
    key, secrets, base = (
        environ.get(name, "").strip() for name in (API_KEY_VARIABLE, SECRET_VARIABLE, BASE_URL_VARIABLE)
    )
    results = [_key(key), _secrets(key, [part.strip() for part in secrets.split(",") if part.strip()])]
    results.append(_integration(environ.get(INTEGRATION_VARIABLE, "").strip()))
    credentials: Credentials | None = None
    if all(result.outcome is not CheckOutcome.FAILED for result in results):
        try:
            credentials = Credentials.from_env(environ)
        except ConfigurationError as error:
            results[1] = CheckResult("shared secret", CheckOutcome.FAILED, str(error))
    address, root = _base_url(base, environ)
    return [*results, address], credentials, root


def _key(key: str) -> CheckResult:
    name = "api key"
    if not key:
        return CheckResult(name, CheckOutcome.FAILED, f"{API_KEY_VARIABLE} is not set: copy the API key from {PORTAL}.")
    if not _is_uuid(key):
        message = f"{API_KEY_VARIABLE} is not a UUID (Veriff's code 1802): copy the API key again from {PORTAL}."
        return CheckResult(name, CheckOutcome.FAILED, message)
    return CheckResult(name, CheckOutcome.OK, f"{API_KEY_VARIABLE} is set and is a UUID.")


def _secrets(key: str, secrets: Sequence[str]) -> CheckResult:
    name = "shared secret"
    if not secrets:
        message = f"{SECRET_VARIABLE} is not set: copy the shared secret key from {PORTAL}, which shows it once."
        return CheckResult(name, CheckOutcome.FAILED, message)
    # Key and secret have the same form and are shown on the same page, so they are easily confused.
    if key and key in secrets:
        message = f"{SECRET_VARIABLE} is the API key: give the shared secret key, which is shown below it on {PORTAL}."
        return CheckResult(name, CheckOutcome.FAILED, message)
    unusual = [number for number, secret in enumerate(secrets, 1) if not _is_uuid(secret)]
    count = format_count(len(secrets), "secret") + (", of which the first signs" if len(secrets) > 1 else "")
    if unusual:
        which = ", ".join(map(str, unusual))
        message = (
            f"{SECRET_VARIABLE} is set ({count}), but secret {which} is not a UUID like Veriff's secrets: check for a "
            "quotation mark, a space or a missing part."
        )
        return CheckResult(name, CheckOutcome.WARNING, message)
    return CheckResult(name, CheckOutcome.OK, f"{SECRET_VARIABLE} is set: {count}.")


def _integration(integration: str) -> CheckResult:
    name = "integration id"
    if not integration:
        message = f"{INTEGRATION_VARIABLE} is not set, and needed only when integrations share an API key."
        return CheckResult(name, CheckOutcome.OK, message)
    if not _is_uuid(integration):
        message = f"{INTEGRATION_VARIABLE} is not a UUID: copy the integration ID again from {PORTAL}, or leave it out."
        return CheckResult(name, CheckOutcome.FAILED, message)
    return CheckResult(name, CheckOutcome.OK, f"{INTEGRATION_VARIABLE} is set and is a UUID.")


def _base_url(base: str, environ: Mapping[str, str]) -> tuple[CheckResult, str | None]:
    name = "base url"
    if not base:
        message = f"{BASE_URL_VARIABLE} is not set: copy the base URL of the integration from {PORTAL}."
        return CheckResult(name, CheckOutcome.FAILED, message), None
    try:
        root = parse_root(base, name=BASE_URL_VARIABLE, allow_insecure=insecure_hosts(insecure_hosts_from(environ)))
    except ConfigurationError as error:
        return CheckResult(name, CheckOutcome.FAILED, str(error)), None
    if (old := deprecation(root)) is not None:
        return CheckResult(name, CheckOutcome.WARNING, old), root
    return CheckResult(name, CheckOutcome.OK, f"{BASE_URL_VARIABLE} is {root}."), root


def check_proxies(environ: Mapping[str, str], *, used: bool = False) -> CheckResult:
    """Look for a proxy, which the client ignores by default. Its URL may contain a password and is not shown."""
    if used:
        return CheckResult("proxies", CheckOutcome.OK, "Connections go through the proxy of --proxy.")
    found = sorted({name.upper() for name in _PROXIES if environ.get(name, "").strip()})
    if not found:
        return CheckResult("proxies", CheckOutcome.OK, "The environment does not name a proxy.")
    message = (
        f"{' and '.join(found)} is set but not used: the client connects directly. If connections must go through the "
        "proxy, create the client with VeriffClient(trust_env=True), and give commands --proxy env."
    )
    return CheckResult("proxies", CheckOutcome.WARNING, message)


def check_other_secrets(
    refused: Sequence[int], unclear: Sequence[int], count: int, *, is_first_accepted: bool
) -> CheckResult:
    """Evaluate the other secrets, each of which signed its own request.

    Args:
        refused: Numbers of the refused secrets, from 1.
        unclear: Numbers of those that were neither refused nor accepted.
        count: Number of all secrets.
        is_first_accepted: Whether the first secret, which signs, is accepted.
    """
    name = "other secrets"
    if refused:
        which = ", ".join(map(str, refused))
        message = (
            f"Of {count} secrets, number {which} is refused: it was deleted in the Customer Portal or is mistyped, so "
            f"leave it out of {SECRET_VARIABLE} or copy it again."
        )
        return CheckResult(name, CheckOutcome.WARNING, message)
    if unclear:
        return CheckResult(name, CheckOutcome.WARNING, "They were neither accepted nor refused: try again later.")
    if is_first_accepted:
        return CheckResult(name, CheckOutcome.OK, f"All {count} secrets are accepted.")
    return CheckResult(
        name, CheckOutcome.WARNING, "The others are accepted, but the first one signs: put one of them first."
    )


def check_receiver(name: str, status: int | None, problem: str, *, is_signed: bool) -> CheckResult:
    """Evaluate the response of a webhook receiver to a sample."""
    if status is None:
        return CheckResult(name, CheckOutcome.FAILED, f"No response: {problem}.")
    if is_signed:
        if status == 200:  # noqa: PLR2004
            return CheckResult(name, CheckOutcome.OK, "The receiver answers 200 to a signed sample.")
        remedy = _RECEIVER.get(status, "look into its log; Veriff accepts only 200, and repeats the webhook for a week")
        return CheckResult(name, CheckOutcome.FAILED, f"The receiver answers {status} to a signed sample: {remedy}.")
    if status // 100 == 2:  # noqa: PLR2004
        message = (
            f"The receiver answers {status}, so anyone could send it forged decisions: verify the signature first."
        )
        return CheckResult(name, CheckOutcome.FAILED, message)
    if status // 100 == 4:  # noqa: PLR2004
        return CheckResult(name, CheckOutcome.OK, f"The receiver refuses it with {status}.")
    message = f"The receiver answers {status}, which does not refuse it: answer 401 to invalid signatures."
    return CheckResult(name, CheckOutcome.WARNING, message)


_RECEIVER: Final = {
    401: "it has other credentials, or does not verify the raw body; the command listen explains which",
    403: "it has other credentials, or a firewall in front of it refuses the request",
    404: "it does not serve this path; check --webhook-url",
    405: "it does not accept POST at this path; check --webhook-url",
    301: "Veriff does not follow redirects; give the address that it leads to",
    302: "Veriff does not follow redirects; give the address that it leads to",
    307: "Veriff does not follow redirects; give the address that it leads to",
    308: "Veriff does not follow redirects; give the address that it leads to",
}


def _is_uuid(text: str) -> bool:
    try:
        # UUID() also accepts braces, ``urn:uuid:`` and missing hyphens.
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _parts(version: str) -> tuple[int, ...]:
    # Three numbers: a suffix such as rc1 does not matter for a lower bound.
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
