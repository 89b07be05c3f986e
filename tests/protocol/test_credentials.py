"""Credentials: what they accept, where they come from, and that they show nothing."""

from __future__ import annotations

import pytest

from veriff_async import ConfigurationError, Credentials


def test_environment_lists_secrets_newest_first() -> None:
    """The shared secret variable is a comma list whose first secret signs."""
    found = Credentials.from_env(
        {"VERIFF_API_KEY": "key", "VERIFF_SHARED_SECRET": "new, old,,older ", "VERIFF_INTEGRATION_ID": "integration"}
    )

    expected = Credentials("key", "new", previous_secrets=("old", "older"), integration_id="integration")
    assert expected == found
    assert ("new", "old", "older") == found.secrets


def test_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the variables of the process count."""
    monkeypatch.setenv("VERIFF_API_KEY", "key")
    monkeypatch.setenv("VERIFF_SHARED_SECRET", "secret")
    monkeypatch.delenv("VERIFF_INTEGRATION_ID", raising=False)

    assert Credentials("key", "secret") == Credentials.from_env()


@pytest.mark.parametrize("missing", ["VERIFF_API_KEY", "VERIFF_SHARED_SECRET"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_missing_variables_are_named(missing: str, value: str | None) -> None:
    """The error names the variable that is missing or blank."""
    environ = {"VERIFF_API_KEY": "key", "VERIFF_SHARED_SECRET": "secret"}
    del environ[missing]
    if value is not None:
        environ[missing] = value

    with pytest.raises(ConfigurationError, match=missing):
        Credentials.from_env(environ)


def test_list_of_commas_contains_no_secret() -> None:
    """A variable of nothing but separators is refused."""
    with pytest.raises(ConfigurationError, match="holds no secret"):
        Credentials.from_env({"VERIFF_API_KEY": "key", "VERIFF_SHARED_SECRET": " , ,"})


@pytest.mark.parametrize("secret", ["hunter2\n", " hunter2", "hun\x00ter2", "hun\rter2"])
def test_invalid_characters_are_rejected_without_showing_them(secret: str) -> None:
    """White space and control characters, as a secret's file often ends with, are refused; the secret is not shown."""
    with pytest.raises(ConfigurationError, match="copy it again") as caught:
        Credentials("key", secret)

    assert secret.strip() not in str(caught.value)


def test_at_most_five_secrets() -> None:
    """Five secrets are taken, six are refused, as in the Customer Portal."""
    assert 5 == len(Credentials("key", "1", previous_secrets=["2", "3", "4", "5"]).secrets)
    with pytest.raises(ConfigurationError, match="more than 5"):
        Credentials("key", "1", previous_secrets=["2", "3", "4", "5", "6"])


def test_only_secret_cannot_be_removed() -> None:
    """The error for leaving out the only secret names the successor that is missing, not an empty secret."""
    with pytest.raises(ConfigurationError, match=r"add its successor first, with with_rotated_secret\(\)"):
        Credentials("key", "1").without_secret(0)


@pytest.mark.parametrize(("index", "words"), [(1, "only one secret"), (-1, "only one"), ("0", "'0'"), (True, "True")])
def test_index_of_secret_is_checked(index: object, words: str) -> None:
    """An index without a secret is refused, and the error names the valid ones."""
    with pytest.raises(ConfigurationError, match=words):
        Credentials("key", "1").without_secret(index)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="an index from 0 to 1"):
        Credentials("key", "1", previous_secrets=["2"]).without_secret(2)


def test_single_text_is_not_a_list_of_secrets() -> None:
    """A text in place of a list, which would be read letter by letter, is refused."""
    with pytest.raises(ConfigurationError, match="tuple of secrets"):
        Credentials("key", "new", previous_secrets="old")


def test_repr_shows_nothing_secret() -> None:
    """Neither key nor secret stand in the repr."""
    shown = repr(Credentials("the-key", "the-secret", previous_secrets=("the-old-secret",), integration_id="it"))

    assert "Credentials(integration_id='it')" == shown


def test_any_secret_verifies() -> None:
    """A signature from before a rotation is still recognised after it."""
    before = Credentials("key", "old")
    after = Credentials("key", "new", previous_secrets=("old",))

    assert 1 == after.verify(b"payload", before.sign(b"payload"))
    assert 0 == after.verify(b"payload", after.sign(b"payload"))
    assert None is before.verify(b"payload", after.sign(b"payload"))
