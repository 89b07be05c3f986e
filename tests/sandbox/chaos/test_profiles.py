"""Chaos profiles as values and files: every valid one round-trips, every other input has a one-sentence error."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from attrs import fields
from hypothesis import example, given, strategies as st

from veriff_async import ConfigurationError, InvalidArgumentError
from veriff_async.sandbox import (
    ChaosProfile,
    Delay,
    Fault,
    Outage,
    RequestChaos,
    Sandbox,
    WebhookChaos,
    WebhookKind,
)
from veriff_async.sandbox._chaos.delay import DISTRIBUTIONS
from veriff_async.sandbox._chaos.reader import FAULT_KEYS, KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS: Final = st.floats(0, 86_400)
SHARE: Final = st.floats(0, 1)
TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def bounds(build: Callable[[float, float], Delay]) -> st.SearchStrategy[Delay]:
    """Return delays whose lower bound is not above the upper one."""
    return st.tuples(SECONDS, SECONDS).map(lambda pair: build(min(pair), max(pair)))


DELAYS: Final = st.one_of(
    st.builds(Delay.constant, SECONDS),
    bounds(Delay.uniform),
    st.tuples(SECONDS, SECONDS).flatmap(
        lambda pair: bounds(lambda low, high: Delay.normal(*pair, lowest=low, highest=high))
    ),
    st.tuples(SECONDS, st.floats(0, 10)).flatmap(
        lambda pair: bounds(lambda low, high: Delay.lognormal(*pair, lowest=low, highest=high))
    ),
)
AFTER: Final = st.integers(0, 10**9)
FAULTS: Final = st.one_of(
    st.builds(
        Fault.status,
        st.integers(200, 599),
        retry_after=st.none() | st.integers(0, 100),
        code=st.none() | TEXT,
        message=TEXT,
        before_body=st.booleans(),
    ),
    st.builds(Fault.drop, after=AFTER),
    st.builds(Fault.hang, after=AFTER),
    st.builds(Fault.truncate_response, after=AFTER),
    st.builds(Fault.stall_response, after=AFTER),
    st.builds(Fault.corrupt_response, offset=AFTER),
    st.just(Fault.lose_response()),
    st.just(Fault.forge_signature()),
)
METHODS: Final = st.sampled_from([None, "GET", "POST", "PATCH", "DELETE"])
PATHS: Final = st.none() | TEXT.map(lambda text: "/" + text)
RATES: Final = st.none() | st.floats(0.01, 1000)
PROFILES: Final = st.builds(
    ChaosProfile,
    name=TEXT,
    description=TEXT,
    seed=st.integers(0, 10**9),
    requests=st.lists(
        st.builds(
            RequestChaos,
            method=METHODS,
            path=PATHS,
            faults=st.dictionaries(FAULTS, st.floats(0, 0.3), max_size=3),
            latency=st.none() | DELAYS,
            requests_per_second=RATES,
            retry_after=SECONDS,
        ),
        max_size=3,
    ),
    webhooks=st.lists(
        st.builds(
            WebhookChaos,
            kind=st.none() | st.sampled_from(list(WebhookKind)),
            loss=SHARE,
            duplication=SHARE,
            copies=st.integers(1, 100),
            delay=st.none() | DELAYS,
            reordering=SHARE,
            reorder_seconds=SECONDS,
        ),
        max_size=3,
    ),
    outages=st.lists(
        st.builds(
            Outage,
            duration=st.floats(0.1, 1000),
            start=SECONDS,
            every=st.none() | st.floats(1001, 5000),
            method=METHODS,
            path=PATHS,
            fault=FAULTS,
            webhooks=st.booleans(),
        ),
        max_size=3,
    ),
)


@given(PROFILES)
def test_every_profile_round_trips(profile: ChaosProfile) -> None:
    """A written profile is read as an equal one: from TOML as text and bytes, and from its members."""
    text = profile.to_toml()

    assert profile == ChaosProfile.parse(text)
    assert profile == ChaosProfile.parse(text.encode())
    assert profile == ChaosProfile.from_dict(profile.to_dict())


KEYS: Final = (
    *("requests", "webhooks", "outages", "name", "seed", "faults", "latency", "kind", "weight", "status", "method"),
    *("path", "duration", "every", "headers", "delay", "distribution", "mean", "lowest"),
)
VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["status", "drop", "normal"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200))
@example(b"\xff")
@example(b"x = " + b"[" * 5000)
@example(b"x = " + b"9" * 5000)
@example(b"x = 2026-13-45")
@example(b"# " + b"x" * 300_000)
def test_any_bytes_are_a_profile_or_a_configuration_error(content: bytes) -> None:
    """Reading never fails in another way, and the error is one sentence on one line."""
    check_error(lambda: ChaosProfile.parse(content))


@given(st.dictionaries(st.sampled_from(KEYS) | TEXT, VALUES, max_size=4))
def test_any_members_are_a_profile_or_a_configuration_error(members: dict[str, object]) -> None:
    """The same holds for members, as the control API gets them."""
    check_error(lambda: ChaosProfile.from_dict(members))


def check_error(read: Callable[[], object]) -> None:
    """Check that an action succeeds, or raises an error of one sentence."""
    with suppress(ConfigurationError):
        read()
        return
    with pytest.raises(ConfigurationError) as raised:
        read()
    message = str(raised.value)
    assert message[0].isupper()
    assert message[-1] in ".?"
    assert message.isprintable()
    assert (None, None) == (raised.value.__cause__, raised.value.__context__)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 1", "the top level has an unknown key 'sed': did you mean 'seed'?"),
        ("seed = -1", "seed is -1: pass a whole number from 0 to 1000000000."),
        ("seed = 1.5", "seed is 1.5: pass a whole number from 0 to 1000000000."),
        ("name = 3", "name must be a text, not int."),
        ("[requests]", "requests must be a list, not dict: write [[requests]] above each of its tables."),
        ("requests = [1]", "requests[0] must be a table, not int: write its keys and values."),
        ('[[requests]]\nmethod = "POSTT"', "requests[0].method is 'POSTT': did you mean 'POST'?"),
        ('[[requests]]\npath = "x"', "requests[0].path is no path: pass a pattern such as '/v1/sessions/*/media'."),
        ("[[requests]]\n[[requests]]\nwieght = 1", "requests[1] has an unknown key 'wieght': it takes method, path, "),
        ("[[requests]]\nlatency = -1", "requests[0].latency is -1: pass a number from 0 to 86400."),
        ('[[requests]]\nlatency = "1"', "requests[0].latency must be a table, not str: write its keys and values."),
        (
            '[[requests]]\nlatency = { distribution = "lognormel" }',
            "requests[0].latency.distribution is 'lognormel': did you mean 'lognormal'?",
        ),
        (
            '[[requests]]\nlatency = { distribution = "normal", mean = 1 }',
            "requests[0].latency has no deviation: add deviation.",
        ),
        (
            '[[requests]]\nlatency = { distribution = "uniform", lowest = 2, highest = 1 }',
            "requests[0].latency.lowest is 2: pass a number that is not above highest.",
        ),
        ("[[requests]]\nrequests_per_second = 0", "requests[0].requests_per_second is 0: pass a number above 0 to "),
        ('[[requests]]\n[[requests.faults]]\nkind = "drop"', "requests[0].faults[0] has no weight: add weight."),
        (
            "[[requests]]\n[[requests.faults]]\nweight = 1",
            "requests[0].faults[0] has no kind: add kind, one of status, drop, hang, ",
        ),
        (
            '[[requests]]\n[[requests.faults]]\nkind = "dropp"',
            "requests[0].faults[0].kind is 'dropp': did you mean 'drop'?",
        ),
        (
            '[[requests]]\n[[requests.faults]]\nkind = "drop"\nweight = 3',
            "requests[0].faults[0].weight is 3: pass a number from 0 to 1.",
        ),
        (
            '[[requests]]\n[[requests.faults]]\nkind = "hang"\nweight = 0.1\nstatus = 500',
            "requests[0].faults[0] has an unknown key 'status': it takes kind, weight, after.",
        ),
        (
            '[[requests]]\n[[requests.faults]]\nkind = "status"\nweight = 0.1\nstatus = 999',
            "requests[0].faults[0].status is 999: pass a whole number from 200 to 599.",
        ),
        (
            '[[requests]]\n[[requests.faults]]\nkind = "corrupt_response"\nweight = 0.1\noffset = -1',
            "requests[0].faults[0].offset is -1: pass a whole number from 0 to 1000000000.",
        ),
        (
            '[[requests]]\n[[requests.faults]]\nkind = "status"\nweight = 0.1\nstatus = 500\nretry_after = true',
            "requests[0].faults[0].retry_after is True: pass a number from 0 to 1000000000.",
        ),
        (
            '[[requests]]\nfaults = [{ kind = "drop", weight = 0.7 }, { kind = "hang", weight = 0.7 }]',
            "requests[0].faults has weights with a sum of 1.4: pass weights with a sum of at most 1.",
        ),
        (
            '[[requests]]\nfaults = [{ kind = "drop", weight = 0.1 }, { kind = "drop", weight = 0.2 }]',
            "requests[0].faults[1] is the same fault as an earlier one: add their weights.",
        ),
        ('[[webhooks]]\nkind = "decisionn"', "webhooks[0].kind is 'decisionn': did you mean 'decision'?"),
        ("[[webhooks]]\nloss = true", "webhooks[0].loss is True: pass a number from 0 to 1."),
        ("[[webhooks]]\nlos = 1", "webhooks[0] has an unknown key 'los': did you mean 'loss'?"),
        ("[[outages]]\nstart = 1", "outages[0] has no duration: add duration."),
        (
            "[[outages]]\nduration = 10\nevery = 5",
            "outages[0].every is 5: pass more seconds than duration, or the outage never ends.",
        ),
        ("[[outages]]\nduration = 1\nwebhooks = 1", "outages[0].webhooks is 1: pass True or False."),
    ],
)
def test_error_names_the_key_of_the_file(text: str, message: str, tmp_path: Path) -> None:
    """The sentence has the file, the key, its value and the remedy, with the right spelling where one is close."""
    file = tmp_path / "flaky.toml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigurationError, match=re.escape(f"In flaky.toml, {message}")):
        ChaosProfile.load(file)


def test_error_of_the_syntax_names_the_place(tmp_path: Path) -> None:
    """A file that is not TOML has the line and the column of the problem."""
    file = tmp_path / "flaky.toml"
    file.write_text("seed = 1\nname\n", encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"^Flaky\.toml is not valid TOML \(.* at line 2, column 5\): correct"):
        ChaosProfile.load(str(file))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("mobil", "did you mean 'mobile'?"),
        ("rate_limited", "did you mean 'rate-limited'?"),
        ("zzz", "pass a path, or one of perfect, mobile, outage, rate-limited, hostile-webhooks."),
        ("missing.toml", "The chaos profile missing.toml cannot be read (No such file or directory): pass a file, or"),
        (Path("mobile"), "The chaos profile mobile cannot be read (No such file or directory): pass a file, or"),
        (3, "chaos must be a ChaosProfile, a name or a path, not int: pass 'mobile', for example."),
    ],
)
def test_sandbox_refuses_an_unknown_profile(value: object, message: str) -> None:
    """The error suggests a profile; the sandbox is not created."""
    options: dict[str, object] = {"chaos": value}
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        Sandbox(**options)  # type: ignore[arg-type]  # the wrong type is the subject


@pytest.mark.parametrize("value", [5, ["a"]])
def test_profile_is_parsed_from_text_only(value: object) -> None:
    """Another type is one sentence with the name of the type."""
    with pytest.raises(ConfigurationError, match=f"must be text or bytes, not {type(value).__name__}: pass"):
        ChaosProfile.parse(value)  # type: ignore[arg-type]  # the wrong type is the subject


def test_retry_after_of_a_fault_is_a_number_or_a_date() -> None:
    """The header of RFC 9110 has seconds or a date, and so has the profile."""
    faults = '[[requests]]\n[[requests.faults]]\nkind = "status"\nweight = 0.1\nstatus = 503\nretry_after = '
    for value, header in (("3", "3"), ('"Fri, 31 Dec 2027 23:59:59 GMT"', "Fri, 31 Dec 2027 23:59:59 GMT")):
        assert header in repr(ChaosProfile.parse(faults + value))


@pytest.mark.parametrize("name", ChaosProfile.shipped())
def test_shipped_profile_states_its_purpose(name: str) -> None:
    """Each has its name, a description and comments, and round-trips."""
    profile = ChaosProfile.load(name)

    assert name == profile.name
    assert profile.description
    assert profile == ChaosProfile.parse(profile.to_toml())


def test_profile_of_the_documentation_is_valid() -> None:
    """The TOML block of the page about faults can be copied, and the table names every key."""
    page = (Path(__file__).parents[3] / "docs/how-to/inject-faults.md").read_text(encoding="utf-8")
    block = page.split("```toml\n")[1].split("```")[0]

    assert 1 == len(ChaosProfile.parse(block).outages)
    for rule in (RequestChaos, WebhookChaos, Outage):
        for field in fields(rule):
            assert field.name in page
    for key in (*KINDS, *(key for keys in (*FAULT_KEYS.values(), *DISTRIBUTIONS.values()) for key in keys)):
        assert key in page


def test_file_without_a_name_has_that_of_the_file(tmp_path: Path) -> None:
    """The name is the file's name without its suffix; a name in the file has priority."""
    (tmp_path / "flaky.toml").write_text("", encoding="utf-8")
    (tmp_path / "other.toml").write_text('name = "mine"', encoding="utf-8")

    assert "flaky" == ChaosProfile.load(tmp_path / "flaky.toml").name
    assert "mine" == ChaosProfile.load(tmp_path / "other.toml").name


def test_profile_from_python_is_checked() -> None:
    """Wrong values of the constructors are argument errors that name the field."""
    too_much = {Fault.drop(): 1.0, Fault.hang(): 0.2}
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("RequestChaos.faults has weights with a sum of 1.2", lambda: RequestChaos(faults=too_much)),
        ("RequestChaos.faults must be a Fault, not str", lambda: RequestChaos(faults={"drop": 1})),  # type: ignore[dict-item]
        ("RequestChaos.latency must be a Delay, not int", lambda: RequestChaos(latency=1)),  # type: ignore[arg-type]
        ("ChaosProfile.requests must be a tuple of RequestChaos", lambda: ChaosProfile(requests=[1])),  # type: ignore[list-item]
        ("Delay.sigma is 11", lambda: Delay.lognormal(1, 11)),
        ("Delay.deviation is -1", lambda: Delay.normal(1, -1)),
    ]  # fmt: skip
    for message, build in wrong:
        with pytest.raises(InvalidArgumentError, match=re.escape(message)):
            build()
