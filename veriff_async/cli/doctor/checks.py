"""The checks of the doctor: each result has one sentence with its remedy. Pure; results never contain secrets."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from uuid import UUID

from attrs import frozen

from veriff_async import ConfigurationError, Credentials
from veriff_async._protocol import error_codes
from veriff_async._protocol.base_url import deprecation, insecure_hosts, insecure_hosts_from, parse_root
from veriff_async.client import BASE_URL_VARIABLE
from veriff_async.credentials import API_KEY_VARIABLE, INTEGRATION_VARIABLE, SECRET_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

__all__ = (
    "CHECKS",
    "CheckOutcome",
    "CheckResult",
    "check_clock",
    "check_credentials",
    "check_other_secrets",
    "check_proxies",
    "check_receiver",
    "check_signature_required",
    "check_signing",
    "check_variables",
    "check_versions",
)

_PORTAL: Final = "the integration's API Keys page in the Customer Portal"
_VECTOR: Final = (
    "abcdef12-abcd-abcd-abcd-abcdef012345",
    b"aea9ba6d-1b47-47fc-a4fc-f72b6d3584a7",
    "895cb3fd31139d89aeb7b263682e15479ab57651e70591256ad2c14fde4950dd",
)
"""A published example of a signature: shared secret (not in use), session id, HMAC-SHA256."""

_SLOW_CLOCK: Final = 30.0
_WRONG_CLOCK: Final = 180.0
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
    "response",
    "clock",
    "credentials",
    "response signature",
    "other secrets",
)
"""Names of all checks, in order; ``--webhook-url`` adds some."""


class CheckOutcome(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@frozen
class CheckResult:
    """The result of one check.

    Attributes:
        name: The check.
        outcome: The outcome.
        message: One sentence, with the remedy if something is wrong.
    """

    name: str
    outcome: CheckOutcome
    message: str

    @classmethod
    def skip(cls, name: str, because: str) -> CheckResult:
        """Return the result of a check that was not possible because another one failed."""
        return cls(name, CheckOutcome.SKIPPED, f"Not checked: {because}.")


def check_versions(python: str, found: Mapping[str, str], required: Iterable[str]) -> CheckResult:
    """Compare installed versions with the requirements of the package.

    Args:
        python: The version of Python.
        found: Installed versions by package name.
        required: Requirements from the metadata of the package.
    """
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
        return CheckResult(
            name, CheckOutcome.FAILED, f"{API_KEY_VARIABLE} is not set: copy the API key from {_PORTAL}."
        )
    if not _is_uuid(key):
        message = f"{API_KEY_VARIABLE} is not a UUID (Veriff's code 1802): copy the API key again from {_PORTAL}."
        return CheckResult(name, CheckOutcome.FAILED, message)
    return CheckResult(name, CheckOutcome.OK, f"{API_KEY_VARIABLE} is set and is a UUID.")


def _secrets(key: str, secrets: Sequence[str]) -> CheckResult:
    name = "shared secret"
    if not secrets:
        message = f"{SECRET_VARIABLE} is not set: copy the shared secret key from {_PORTAL}, which shows it once."
        return CheckResult(name, CheckOutcome.FAILED, message)
    # Key and secret have the same form and are shown on the same page, so they are easily confused.
    if key and key in secrets:
        message = f"{SECRET_VARIABLE} is the API key: give the shared secret key, which is shown below it on {_PORTAL}."
        return CheckResult(name, CheckOutcome.FAILED, message)
    unusual = [number for number, secret in enumerate(secrets, 1) if not _is_uuid(secret)]
    count = "one secret" if len(secrets) == 1 else f"{len(secrets)} secrets, of which the first signs"
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
        message = (
            f"{INTEGRATION_VARIABLE} is not a UUID: copy the integration ID again from {_PORTAL}, or leave it out."
        )
        return CheckResult(name, CheckOutcome.FAILED, message)
    return CheckResult(name, CheckOutcome.OK, f"{INTEGRATION_VARIABLE} is set and is a UUID.")


def _base_url(base: str, environ: Mapping[str, str]) -> tuple[CheckResult, str | None]:
    name = "base url"
    if not base:
        message = f"{BASE_URL_VARIABLE} is not set: copy the base URL of the integration from {_PORTAL}."
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


def check_credentials(status: int, code: str | None, *, is_veriffs: bool) -> CheckResult:
    """Evaluate the response to a request for the decision of a session that does not exist.

    Documented: an unknown session gets 404, a refused key or signature 401. The codes come from public transcriptions
    of Veriff's table, and the HTTP status of each is a guess, so the code takes precedence. That Veriff checks key and
    signature before it looks up the session is a guess too; `check_signature_required` tests it.

    Args:
        status: HTTP status.
        code: Veriff's code, if the response has one.
        is_veriffs: Whether the response has Veriff's format.
    """
    name = "credentials"
    numbers = f"HTTP {status}" + (f", code {code}" if code else "")
    if status == 401 or (code or "").startswith("18"):  # noqa: PLR2004  statuses of HTTP
        message = f"Refused ({numbers}): {error_codes.remedy(401, code)}."
        return CheckResult(name, CheckOutcome.FAILED, message)
    if status in {200, 404} and is_veriffs:
        message = f"Key and signature seem to be accepted: the response says that the session is unknown ({numbers})."
        return CheckResult(name, CheckOutcome.OK, message)
    if status in {200, 404}:
        message = f"The response ({numbers}) does not have Veriff's format: compare {BASE_URL_VARIABLE} with {_PORTAL}."
        return CheckResult(name, CheckOutcome.FAILED, message)
    message = f"Veriff neither accepted nor refused the credentials ({numbers}): {error_codes.remedy(status, code)}."
    is_refusal = status < 500 and status // 100 != 3  # noqa: PLR2004
    return CheckResult(name, CheckOutcome.WARNING if is_refusal else CheckOutcome.FAILED, message)


def check_signature_required(accepted: CheckResult, status: int | None, code: str | None) -> CheckResult:
    """Evaluate the same request with a wrong signature: unless it is refused, acceptance of ours proves nothing.

    Args:
        accepted: The result for the right signature.
        status: HTTP status for the wrong one, or `None` without a response.
        code: Veriff's code in that response.
    """
    numbers = f"HTTP {status}" + (f", code {code}" if code else "")
    if status == 401 or (code or "").startswith("18"):  # noqa: PLR2004
        message = (
            "Key and signature are accepted: the response says that the session is unknown, and the same request with "
            f"a wrong signature is refused ({numbers})."
        )
        return CheckResult(accepted.name, CheckOutcome.OK, message)
    if status is None:
        return accepted
    message = (
        f"The secret could not be tested: a wrong signature got the same response ({numbers}), so Veriff did not "
        f"check the signature. Compare {SECRET_VARIABLE} with {_PORTAL}."
    )
    return CheckResult(accepted.name, CheckOutcome.WARNING, message)


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


def check_clock(date: str | None, *, now: datetime, seconds: float) -> CheckResult:
    """Compare the clock with the server's.

    Signatures contain no time, so Veriff accepts requests from a machine with a wrong clock; but certificates are
    checked against it, and timestamps of pictures and records come from it.

    Args:
        date: The ``Date`` header, exact to a second.
        now: Local time of the response; aware.
        seconds: Duration of the request, by which the header may be older.
    """
    name = "clock"
    try:
        server_time = parsedate_to_datetime(date or "")
        offset = (now - server_time).total_seconds()
    except (TypeError, ValueError):
        return CheckResult(name, CheckOutcome.SKIPPED, "Not checked: the response has no readable Date header.")
    # The server wrote the header at some time during the request, and its fraction of a second is cut off.
    offset = max(0.0, offset - seconds - 1) if offset > 0 else min(0.0, offset + 1)
    description = f"{abs(offset):.0f} seconds {'ahead of' if offset > 0 else 'behind'} the server's"
    remedy = (
        "set it by NTP, since certificates are checked against it and timestamps of pictures and records come from it"
    )
    if abs(offset) > _WRONG_CLOCK:
        return CheckResult(name, CheckOutcome.FAILED, f"The clock of this machine is {description}: {remedy}.")
    if abs(offset) > _SLOW_CLOCK:
        return CheckResult(name, CheckOutcome.WARNING, f"The clock of this machine is {description}: {remedy}.")
    return CheckResult(name, CheckOutcome.OK, "The clock agrees with the server's.")


def check_receiver(name: str, status: int | None, problem: str, *, is_signed: bool) -> CheckResult:
    """Evaluate the response of a webhook receiver to a sample.

    Args:
        name: The check.
        status: HTTP status, or `None` without a response.
        problem: Why there is none.
        is_signed: Whether the sample had a valid signature.
    """
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
