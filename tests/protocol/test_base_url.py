"""Addresses of Veriff's hosts: what is accepted, what may be plain http, what is switched off."""

from __future__ import annotations

import traceback
from string import ascii_letters, digits

import pytest
from hypothesis import given, strategies as st

from veriff_async import ConfigurationError
from veriff_async._protocol.base_url import (
    deprecation,
    hosts_of,
    insecure_hosts,
    insecure_hosts_from,
    is_deprecated,
    parse_root,
)

PASSWORD = "hunter2secret"
OPTIONS = ("base_url", "feedback_url", "sync_url")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(
    "url",
    [
        f"https://ada:{PASSWORD}@example.com",
        f"https://:{PASSWORD}@example.com/v1",
        f"https://{PASSWORD}@example.com",
        f"https://ada:{PASSWORD}/x@example.com",
        f"https://ada:{PASSWORD}#@example.com",
        f"https://ada:{PASSWORD}%40example.com",
        f"http://ada:{PASSWORD}@localhost:8080",
        f"http://ada:{PASSWORD}@[::1",
        f"https://example.com/?key={PASSWORD}",
        f"https://example.com/#{PASSWORD}",
        f"https://ada:{PASSWORD}@",
        f"{PASSWORD}@example.com",
    ],
)
def test_password_in_an_address_is_refused_and_not_shown(option: str, url: str) -> None:
    """An address that holds a secret is refused, and the error names the option and never repeats the value."""
    urls = {"base_url": "https://example.com", "feedback_url": None, "sync_url": None, option: url}

    with pytest.raises(ConfigurationError, match=option) as raised:
        hosts_of(urls["base_url"] or "", feedback_url=urls["feedback_url"], sync_url=urls["sync_url"])

    assert PASSWORD not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None


@given(st.text(st.sampled_from(ascii_letters + digits + ":/@#?%[]\\. \n\u00e9"), max_size=12))
def test_no_text_raises_a_foreign_error(text: str) -> None:
    """Every text is an address or a ConfigurationError, and an address that is accepted holds no user information."""
    try:
        root = parse_root(f"https://{text}")
    except ConfigurationError:
        return
    assert "@" not in root


@pytest.mark.parametrize("value", [None, b"https://example.com", 5])
def test_an_address_is_a_text(value: object) -> None:
    """A value of another type is refused by its type."""
    with pytest.raises(ConfigurationError, match="must be text"):
        parse_root(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "root",
    [
        "https://stationapi.veriff.com",
        "https://STATIONAPI.veriff.com.:443/base",
        "https://api.veriff.me",
        "https://api.us.veriff.me",
        "https://anything.veriff.me",
    ],
)
def test_old_api_host_is_named_with_date_and_remedy(root: str) -> None:
    """The sentence about an old host names it, the day it changes, and where the new one is shown."""
    found = deprecation(root) or ""

    assert is_deprecated(root)
    assert ".veriff." in found
    assert "9 December 2026" in found
    assert "API Keys page" in found


@pytest.mark.parametrize(
    "root",
    [
        "https://api-saas.veriff.com",
        "https://api-eu.veriff.com",
        "http://127.0.0.1:8080",
        "http://localhost:1",
        "http://veriff-sandbox:8080",
        "https://notveriff.me",
        "https://stationapi.veriff.com.example.org",
    ],
)
def test_other_hosts_never_warn(root: str) -> None:
    """New hosts, local ones and look-alikes are not old hosts."""
    assert deprecation(root) is None


def test_plain_http_needs_the_hosts_exact_name() -> None:
    """Plain http is allowed for a named host only, in any case, and for none below or above it."""
    allowed = insecure_hosts(["Veriff-Sandbox", "host.docker.internal", "192.0.2.7"])

    for host in ("veriff-sandbox", "VERIFF-SANDBOX:8080", "host.docker.internal", "192.0.2.7:99"):
        hosts = hosts_of(f"http://{host}/v1", feedback_url=None, sync_url=None, allow_insecure=allowed)
        assert hosts["feedback"] == hosts["api"]
        assert hosts["sync"] == f"{hosts['api']}/sync"
    for host in ("veriff-sandbox.example.com", "docker.internal", "x.host.docker.internal", "192.0.2.70"):
        with pytest.raises(ConfigurationError, match="VERIFF_ALLOW_INSECURE_HOSTS"):
            parse_root(f"http://{host}", allow_insecure=allowed)


@pytest.mark.parametrize("host", ["veriff.me", "api.veriff.me", "stationapi.veriff.com", "API-SAAS.VERIFF.COM."])
def test_plain_http_is_never_advised_for_veriff(host: str) -> None:
    """The error for plain http to a host of Veriff names no option, because none allows it."""
    with pytest.raises(ConfigurationError, match="plain http") as caught:
        parse_root(f"http://{host}")

    assert str(caught.value).endswith("use https.")


@pytest.mark.parametrize(
    "names",
    ["veriff-sandbox", ["*"], ["*.internal"], ["http://sandbox"], ["sandbox:8080"], [""], [None], {"a": 1}, 5, ["a b"]],
)
def test_insecure_hosts_are_whole_names(names: object) -> None:
    """A pattern, an address, or a single text is refused: none of them names one host."""
    with pytest.raises(ConfigurationError, match="allow_insecure_hosts"):
        insecure_hosts(names)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["stationapi.veriff.com", "API-saas.veriff.com", "api.veriff.me", "veriff.com"])
def test_veriff_itself_is_never_insecure(name: str) -> None:
    """Plain http to Veriff cannot be allowed."""
    with pytest.raises(ConfigurationError, match="https only"):
        insecure_hosts([name])


def test_variable_separates_names_by_commas() -> None:
    """The variable is a list, in which spaces and empty items do not count."""
    assert insecure_hosts_from({"VERIFF_ALLOW_INSECURE_HOSTS": " sandbox, ,web "}) == ("sandbox", "web")
    assert insecure_hosts_from({}) == ()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "[::1]", "LOCALHOST."])
def test_this_machine_may_be_plain_http(host: str) -> None:
    """Every address of this machine is allowed over plain http."""
    assert parse_root(f"http://{host}:8080/v1/") == f"http://{host}:8080"


def test_international_name_in_its_written_form_is_a_host() -> None:
    """A host whose name is international is taken in the form of ASCII that DNS has."""
    assert parse_root("https://xn--bcher-kva.example/v1") == "https://xn--bcher-kva.example"
