"""What the doctor finds: each check is one finding, with a sentence and its remedy. Pure, and never a secret in it."""

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
    "Finding",
    "Outcome",
    "clock",
    "of_contrast",
    "of_decision",
    "of_signing",
    "of_variables",
    "of_versions",
    "of_webhook",
    "proxies",
    "rotation",
)

_PORTAL: Final = "the integration's API Keys page in the Customer Portal"
_VECTOR: Final = (
    "abcdef12-abcd-abcd-abcd-abcdef012345",
    b"aea9ba6d-1b47-47fc-a4fc-f72b6d3584a7",
    "895cb3fd31139d89aeb7b263682e15479ab57651e70591256ad2c14fde4950dd",
)
"""A secret of no use, an id, and its signature as it was published: the signature is right on this machine."""

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
    "answer",
    "clock",
    "credentials",
    "answer signature",
    "other secrets",
)
"""The names of all checks, in their order; ``--webhook-url`` adds some."""


class Outcome(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@frozen
class Finding:
    """What one check came to.

    Attributes:
        name: The check.
        outcome: What it came to.
        says: One sentence, with the remedy where something is wrong.
    """

    name: str
    outcome: Outcome
    says: str

    @classmethod
    def skipped(cls, name: str, because: str) -> Finding:
        """Return the finding of a check that could not be made, because another failed."""
        return cls(name, Outcome.SKIPPED, f"Not checked: {because}.")


def of_versions(python: str, found: Mapping[str, str], required: Iterable[str]) -> Finding:
    """Compare versions with what the package requires.

    Args:
        python: The version of Python.
        found: The versions of packages, by name.
        required: What the package requires, as its metadata has it.
    """
    old: list[str] = []
    for line in required:
        match = _NUMBERS.match(line)
        if match and "extra ==" not in line and match[1] in found and _parts(found[match[1]]) < _parts(match[2]):
            old.append(f"{match[1]} {found[match[1]]}, at least {match[2]} is needed")
    shown = ", ".join(f"{name} {found[name]}" for name in ("veriff-async", "aiohttp") if name in found)
    if old:
        return Finding("versions", Outcome.FAILED, f"Too old: {'; '.join(old)}: upgrade with pip install -U.")
    return Finding("versions", Outcome.OK, f"Python {python}, {shown}.")


def of_signing(credentials: Credentials | None) -> Finding:
    """Sign and verify: a published example, and with the own secrets."""
    secret, text, signature = _VECTOR
    is_right = Credentials("example", secret).sign(text) == signature
    if credentials is not None:
        is_right = is_right and credentials.verify(text, credentials.sign(text)) == 0
    if is_right:
        own = "and the own secret verifies what it signs" if credentials else "the own secret was not tried"
        return Finding("signing", Outcome.OK, f"A published example is signed as it should be, {own}.")
    return Finding("signing", Outcome.FAILED, "HMAC-SHA256 is wrong here: reinstall Python and veriff-async.")


def of_variables(environ: Mapping[str, str]) -> tuple[list[Finding], Credentials | None, str | None]:
    """Look at the variables.

    Returns:
        The findings, and the credentials and the root of the address where they can be used.
    """
    key, secrets, base = (
        environ.get(name, "").strip() for name in (API_KEY_VARIABLE, SECRET_VARIABLE, BASE_URL_VARIABLE)
    )
    findings = [_key(key), _secrets(key, [part.strip() for part in secrets.split(",") if part.strip()])]
    findings.append(_integration(environ.get(INTEGRATION_VARIABLE, "").strip()))
    credentials: Credentials | None = None
    if all(finding.outcome is not Outcome.FAILED for finding in findings):
        try:
            credentials = Credentials.from_env(environ)
        except ConfigurationError as error:
            findings[1] = Finding("shared secret", Outcome.FAILED, str(error))
    address, root = _base_url(base, environ)
    return [*findings, address], credentials, root


def _key(key: str) -> Finding:
    name = "api key"
    if not key:
        return Finding(name, Outcome.FAILED, f"{API_KEY_VARIABLE} is not set: take the API key from {_PORTAL}.")
    if not _is_uuid(key):
        says = f"{API_KEY_VARIABLE} is no UUID, as code 1802 says: copy the API key again from {_PORTAL}."
        return Finding(name, Outcome.FAILED, says)
    return Finding(name, Outcome.OK, f"{API_KEY_VARIABLE} is set, and is a UUID.")


def _secrets(key: str, secrets: Sequence[str]) -> Finding:
    name = "shared secret"
    if not secrets:
        says = f"{SECRET_VARIABLE} is not set: take the shared secret key from {_PORTAL}, which shows it once."
        return Finding(name, Outcome.FAILED, says)
    if key and key in secrets:
        says = f"{SECRET_VARIABLE} is the API key: give the shared secret key, which stands below it on {_PORTAL}."
        return Finding(name, Outcome.FAILED, says)
    strange = [place for place, secret in enumerate(secrets, 1) if not _is_uuid(secret)]
    count = "one secret" if len(secrets) == 1 else f"{len(secrets)} secrets, of which the first signs"
    if strange:
        which = ", ".join(str(place) for place in strange)
        says = (
            f"{SECRET_VARIABLE} is set ({count}), but secret {which} is no UUID as those of Veriff are: look whether a "
            "quotation mark or a space has come along, or a part is missing."
        )
        return Finding(name, Outcome.WARNING, says)
    return Finding(name, Outcome.OK, f"{SECRET_VARIABLE} is set: {count}.")


def _integration(integration: str) -> Finding:
    name = "integration id"
    if not integration:
        says = f"{INTEGRATION_VARIABLE} is not set, and needed only when integrations share an API key."
        return Finding(name, Outcome.OK, says)
    if not _is_uuid(integration):
        says = f"{INTEGRATION_VARIABLE} is no UUID: copy the integration ID again from {_PORTAL}, or leave it out."
        return Finding(name, Outcome.FAILED, says)
    return Finding(name, Outcome.OK, f"{INTEGRATION_VARIABLE} is set, and is a UUID.")


def _base_url(base: str, environ: Mapping[str, str]) -> tuple[Finding, str | None]:
    name = "base url"
    if not base:
        says = f"{BASE_URL_VARIABLE} is not set: take the integration's own base URL from {_PORTAL}."
        return Finding(name, Outcome.FAILED, says), None
    try:
        root = parse_root(base, name=BASE_URL_VARIABLE, allow_insecure=insecure_hosts(insecure_hosts_from(environ)))
    except ConfigurationError as error:
        return Finding(name, Outcome.FAILED, str(error)), None
    if (old := deprecation(root)) is not None:
        return Finding(name, Outcome.WARNING, old), root
    return Finding(name, Outcome.OK, f"{BASE_URL_VARIABLE} is {root}."), root


def proxies(environ: Mapping[str, str], *, used: bool = False) -> Finding:
    """Look for a proxy, which the client does not use by itself; its address may hold a password and is not shown."""
    if used:
        return Finding("proxies", Outcome.OK, "Connections go through the proxy of --proxy.")
    found = sorted({name.upper() for name in _PROXIES if environ.get(name, "").strip()})
    if not found:
        return Finding("proxies", Outcome.OK, "The environment names no proxy.")
    says = (
        f"{' and '.join(found)} is set, and not used: the client connects directly. If connections must go through the "
        "proxy, create the client with VeriffClient(trust_env=True), and give commands --proxy env."
    )
    return Finding("proxies", Outcome.WARNING, says)


def of_decision(status: int, code: str | None, *, is_veriffs: bool) -> Finding:
    """Judge the answer to a request for the decision of a session that nobody has.

    That an unknown session is answered 404, and a refused key or signature 401, is documented. The codes are from
    public transcriptions of Veriff's table, and which HTTP status goes with each is a guess, so the code counts first.
    That key and signature are looked at before the session is a guess too.

    Args:
        status: HTTP status.
        code: Veriff's code, where the answer has one.
        is_veriffs: Whether the answer has the form of Veriff's.
    """
    name = "credentials"
    numbers = f"HTTP {status}" + (f", code {code}" if code else "")
    if status == 401 or (code or "").startswith("18"):  # noqa: PLR2004  statuses of HTTP
        says = f"Refused ({numbers}): {error_codes.remedy(401, code)}."
        return Finding(name, Outcome.FAILED, says)
    if status in {200, 404} and is_veriffs:
        says = f"Key and signature seem to be accepted: a session that nobody has is answered as such ({numbers})."
        return Finding(name, Outcome.OK, says)
    if status in {200, 404}:
        says = f"The answer ({numbers}) has not the form of Veriff's: compare {BASE_URL_VARIABLE} with {_PORTAL}."
        return Finding(name, Outcome.FAILED, says)
    says = f"Veriff neither accepted nor refused them ({numbers}): {error_codes.remedy(status, code)}."
    return Finding(name, Outcome.WARNING if status < 500 and status // 100 != 3 else Outcome.FAILED, says)  # noqa: PLR2004


def of_contrast(accepted: Finding, status: int | None, code: str | None) -> Finding:
    """Judge anew by the answer to the same request with a wrong signature: only where that is refused, ours counts.

    Args:
        accepted: The finding of the right signature.
        status: HTTP status of the answer to the wrong one, or `None` when none came.
        code: Veriff's code in it.
    """
    numbers = f"HTTP {status}" + (f", code {code}" if code else "")
    if status == 401 or (code or "").startswith("18"):  # noqa: PLR2004
        says = (
            "Key and signature are accepted: a session that nobody has is answered as such, and the same request is "
            f"refused when it is signed wrongly on purpose ({numbers})."
        )
        return Finding(accepted.name, Outcome.OK, says)
    if status is None:
        return accepted
    says = (
        f"Whether the secret is right could not be seen: a wrong signature was answered alike ({numbers}), so the "
        f"signature was not looked at. Compare {SECRET_VARIABLE} with {_PORTAL}."
    )
    return Finding(accepted.name, Outcome.WARNING, says)


def rotation(refused: Sequence[int], unclear: Sequence[int], count: int, *, is_first_accepted: bool) -> Finding:
    """Judge the further secrets, each of which signed a request of its own.

    Args:
        refused: Places of those that were refused, from 1.
        unclear: Places of those that were neither refused nor accepted.
        count: How many secrets there are in all.
        is_first_accepted: Whether the one that signs is.
    """
    name = "other secrets"
    if refused:
        which = ", ".join(str(place) for place in refused)
        says = (
            f"Of {count} secrets, number {which} is refused: it was deleted in the Customer Portal or is mistyped, so "
            f"leave it out of {SECRET_VARIABLE} or copy it again."
        )
        return Finding(name, Outcome.WARNING, says)
    if unclear:
        return Finding(name, Outcome.WARNING, "They were neither accepted nor refused: try again later.")
    if is_first_accepted:
        return Finding(name, Outcome.OK, f"All {count} secrets are accepted.")
    return Finding(
        name, Outcome.WARNING, "The others are accepted, and only the first one signs: put one of them first."
    )


def clock(date: str | None, *, now: datetime, seconds: float) -> Finding:
    """Compare the clock with that of the server.

    No signature has a time in it, so a wrong clock is not refused; but a certificate is judged by it, and the times of
    pictures and in records are wrong.

    Args:
        date: The ``Date`` header, exact to a second.
        now: The time here, when the answer came; aware.
        seconds: How long the answer took, by which it may be older.
    """
    name = "clock"
    try:
        theirs = parsedate_to_datetime(date or "")
        off = (now - theirs).total_seconds()
    except (TypeError, ValueError):
        return Finding(name, Outcome.SKIPPED, "Not checked: the answer has no Date header that can be read.")
    # The header was written at some moment of the request, and its second may be nearly over.
    off = max(0.0, off - seconds - 1) if off > 0 else min(0.0, off + 1)
    words = f"{abs(off):.0f} seconds {'ahead of' if off > 0 else 'behind'} the server's"
    remedy = "set it by NTP, since certificates are judged by it and the times of pictures and records come from it"
    if abs(off) > _WRONG_CLOCK:
        return Finding(name, Outcome.FAILED, f"The clock of this machine is {words}: {remedy}.")
    if abs(off) > _SLOW_CLOCK:
        return Finding(name, Outcome.WARNING, f"The clock of this machine is {words}: {remedy}.")
    return Finding(name, Outcome.OK, "The clock agrees with the server's.")


def of_webhook(name: str, status: int | None, problem: str, *, should_be_taken: bool) -> Finding:
    """Judge what a receiver said to a sample.

    Args:
        name: The check.
        status: HTTP status, or `None` when no answer came.
        problem: Why none came.
        should_be_taken: Whether the sample was signed rightly.
    """
    if status is None:
        return Finding(name, Outcome.FAILED, f"No answer: {problem}.")
    if should_be_taken:
        if status == 200:  # noqa: PLR2004
            return Finding(name, Outcome.OK, "A signed sample is answered 200.")
        remedy = _RECEIVER.get(status, "look into its log; Veriff takes nothing but 200, and sends again for a week")
        return Finding(name, Outcome.FAILED, f"A signed sample is answered {status}: {remedy}.")
    if status // 100 == 2:  # noqa: PLR2004
        says = f"It is answered {status}, so that anybody can tell you of decisions: verify before you answer."
        return Finding(name, Outcome.FAILED, says)
    if status // 100 == 4:  # noqa: PLR2004
        return Finding(name, Outcome.OK, f"It is refused with {status}.")
    says = f"It is answered {status}, which is no refusal: answer 401 to what is not signed rightly."
    return Finding(name, Outcome.WARNING, says)


_RECEIVER: Final = {
    401: "it knows other credentials, or verifies something else than the raw body; listen explains which",
    403: "it knows other credentials, or something in front of it keeps strangers out",
    404: "nothing receives at this path; look at --webhook-url",
    405: "it takes no POST at this path; look at --webhook-url",
    301: "a redirect is not followed; give the address that it leads to",
    302: "a redirect is not followed; give the address that it leads to",
    307: "a redirect is not followed; give the address that it leads to",
    308: "a redirect is not followed; give the address that it leads to",
}


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
