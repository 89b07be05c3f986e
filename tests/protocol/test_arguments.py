"""Mistakes in arguments: every wrong type is an error of ours that names it and what to pass instead."""

from __future__ import annotations

import json
from email.message import Message
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, strategies as st

from veriff_async import (
    ConfigurationError,
    Credentials,
    InvalidArgumentError,
    SignatureError,
    VeriffError,
    WebhookPayloadError,
    explain_signature,
    from_json,
    parse_webhook,
    verify_webhook,
)
from veriff_async._protocol.arguments import accepts_arguments
from veriff_async.testing import signed_webhooks

if TYPE_CHECKING:
    from collections.abc import Callable

CREDENTIALS: Final = Credentials("key", "newest", previous_secrets=["older"])
BODY: Final = b'{"id":"8f0d1ab6","action":"submitted","code":7002}'
HEADERS: Final = {"x-auth-client": "key", "x-hmac-signature": CREDENTIALS.sign(BODY)}
CANARY: Final = "Canary-7f3a"

ENTRIES: Final[list[Callable[..., object]]] = [parse_webhook, verify_webhook, explain_signature]
each_entry = pytest.mark.parametrize("entry", ENTRIES)

JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
MEMBERS: Final = [
    *("eventType", "type", "verification", "technicalData", "checkType", "matchStatus", "action", "code", "addressId"),
    *("id", "sessionId", "attemptId", "status", "data", "time", "vendorData", "endUserId", "version", "searchTerm"),
    *("hits", "totalHits", "createdAt", "decisionTime", "person", "document"),
]
WORDS: Final = ["fullauto", "user-status.created", "ine_registry", "curp_registry", "combined-ine-curp-registry"]
ANYTHING: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([object(), int, print, Ellipsis, {b"x-auth-client": b"key"}, {1: 2}, CREDENTIALS, HEADERS]),
)


def assert_silent(error: VeriffError) -> None:
    """Check that an error shows nothing of what was passed, and keeps no exception that could."""
    assert error.__context__ is None
    assert CANARY not in f"{error!s}{error.__dict__}"


async def unread() -> bytes:
    """Stand for the body of a framework, which is to be awaited."""
    return BODY


class Released:
    """Makes a memory that was given back."""

    def __call__(self) -> memoryview:
        """Return it."""
        view = memoryview(BODY)
        view.release()
        return view


@each_entry
@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (BODY.decode, r"not str: pass the raw bytes of the request body.*base64"),
        (lambda: json.loads(BODY), r"not dict: pass the raw bytes.*before they were parsed"),
        (lambda: None, r"not None: pass the raw bytes"),
        (unread, r"not coroutine: await it"),
        (lambda: unread, r"not function: call it"),
        (lambda: iter([BODY]), r"not list_iterator: read it to its end"),
        (Released(), r"not memoryview"),
        (lambda: 7, r"not int"),
    ],
)
def test_body_of_another_type_names_the_mistake(
    entry: Callable[..., object], make: Callable[[], object], remedy: str
) -> None:
    """A body that is not bytes is an InvalidArgumentError that names its type and the remedy."""
    with pytest.raises(InvalidArgumentError, match=f"body must be bytes, {remedy}"):
        entry(HEADERS, make(), CREDENTIALS)


@each_entry
@pytest.mark.parametrize(
    ("headers", "remedy"),
    [
        (None, "not None"),
        ([(b"x-auth-client", b"key")], "not list: make a dict of the pairs"),
        ("x-auth-client: key", "not str"),
        (dict, "not type"),
        ({b"x-auth-client": b"key"}, "a name is of type bytes: decode"),
        ({7: "key"}, "a name is of type int"),
        ({"X-Auth-Client": ["key"]}, "value of x-auth-client is of type list: .*multiValueHeaders"),
        ({"X-Hmac-Signature": b"00"}, "value of x-hmac-signature is of type bytes: decode"),
        ({"vrf-integration-id": None}, "value of vrf-integration-id is of type None: leave out"),
    ],
)
def test_headers_of_another_type_name_the_mistake(entry: Callable[..., object], headers: object, remedy: str) -> None:
    """Headers that are not a mapping of texts are an InvalidArgumentError that names their type and the remedy."""
    with pytest.raises(InvalidArgumentError, match=f"headers must be a mapping.*{remedy}"):
        entry(headers, BODY, CREDENTIALS)


@each_entry
@pytest.mark.parametrize("credentials", [None, "secret-canary", ("key", "secret-canary"), Credentials])
def test_credentials_of_another_type_name_the_mistake(entry: Callable[..., object], credentials: Any) -> None:  # noqa: ANN401
    """Anything but Credentials is a ConfigurationError, which does not show what was passed."""
    with pytest.raises(
        ConfigurationError, match=r"credentials must be a Credentials instance.*pass Credentials\("
    ) as raised:
        entry(HEADERS, BODY, credentials)
    assert "canary" not in str(raised.value)


@each_entry
@pytest.mark.parametrize("body", [bytearray(BODY), memoryview(BODY), memoryview(bytes(1) + BODY)[1:]])
def test_other_buffers_are_bodies(entry: Callable[..., object], body: Any) -> None:  # noqa: ANN401
    """A body in a bytearray or memoryview is taken as it is."""
    assert entry(HEADERS, body, CREDENTIALS) == entry(HEADERS, BODY, CREDENTIALS)


@each_entry
def test_headers_need_no_mapping_class(entry: Callable[..., object]) -> None:
    """Headers of the standard library's server, which are not a Mapping, and odd values of others are accepted."""
    message = Message()
    for name, value in HEADERS.items():
        message[name.title()] = value
    assert entry(message, BODY, CREDENTIALS) == entry({**HEADERS, "x-other": None}, BODY, CREDENTIALS)


def test_other_text_is_text() -> None:
    """The other text of an explanation is a str, and anything else an error that names it."""
    with pytest.raises(InvalidArgumentError, match="other_text must be a str, not bytes"):
        explain_signature(HEADERS, BODY, CREDENTIALS, other_text=b"id")  # type: ignore[arg-type]


@each_entry
@given(headers=ANYTHING, body=ANYTHING, credentials=ANYTHING | st.just(CREDENTIALS))
def test_no_argument_raises_a_foreign_exception(
    entry: Callable[..., object], headers: object, body: object, credentials: object
) -> None:
    """Arguments of any type give a value or an error of ours."""
    try:
        entry(headers, body, credentials)
    except VeriffError as error:
        assert_silent(error)


@each_entry
@given(
    headers=st.dictionaries(
        st.sampled_from([*HEADERS, "vrf-auth-client", "vrf-hmac-signature", "vrf-integration-id", "x-signature"])
        | st.text(max_size=5),
        st.text(max_size=70) | st.sampled_from([*HEADERS.values(), "0" * 64]),
    ),
    body=st.binary(max_size=30) | st.just(BODY),
)
def test_no_header_raises_a_foreign_exception(
    entry: Callable[..., object], headers: dict[str, str], body: bytes
) -> None:
    """Headers of any text, lone surrogates and control characters included, give a value or a refusal."""
    try:
        entry(headers, body, CREDENTIALS)
    except (SignatureError, WebhookPayloadError) as error:
        assert_silent(error)


@given(
    root=st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from(WORDS) | JSON, max_size=8)
    | st.dictionaries(st.text(max_size=5), JSON)
)
def test_no_signed_json_raises_a_foreign_exception(root: dict[str, object]) -> None:
    """Signed JSON with members of any type is an event with a key, or a WebhookPayloadError that shows none of it."""
    body = json.dumps({**root, "vendorData": CANARY}).encode()
    try:
        event = parse_webhook({**HEADERS, "x-hmac-signature": CREDENTIALS.sign(body)}, body, CREDENTIALS)
    except WebhookPayloadError as error:
        assert_silent(error)
    else:
        assert event.dedup_key


@given(webhook=signed_webhooks(CREDENTIALS), data=st.data())
def test_no_changed_message_raises_a_foreign_exception(
    webhook: tuple[dict[str, str], bytes], data: st.DataObject
) -> None:
    """A message of Veriff's whose members were given other values, and signed, is an event or a WebhookPayloadError."""
    root = json.loads(webhook[1])
    for name in data.draw(st.lists(st.sampled_from(sorted(root)), max_size=3)) if root else ():
        root[name] = data.draw(JSON)
    body = json.dumps(root).encode()
    try:
        assert parse_webhook({**HEADERS, "x-hmac-signature": CREDENTIALS.sign(body)}, body, CREDENTIALS).dedup_key
    except WebhookPayloadError as error:
        assert_silent(error)


class _NoPairs:
    """Something with an `items` that gives no pairs."""

    def __init__(self, items: object) -> None:
        """Take what `items` returns."""
        self._items = items

    def items(self) -> object:
        """Return something that no pairs can be read from."""
        return self._items


@pytest.mark.parametrize("items", [5, [1, 2], [("a",)], [("a", "b", "c")], "text"])
def test_headers_without_pairs_are_refused(items: object) -> None:
    """Headers whose items are not pairs of name and value are refused with an error of ours that names their type."""
    for entry in ENTRIES:
        with pytest.raises(InvalidArgumentError, match="_NoPairs"):
            entry(_NoPairs(items), b"{}", CREDENTIALS)


def test_headers_with_a_wrong_name_are_refused() -> None:
    """The error names the type of the first wrong name, or of the headers if they can be read only once."""
    for entry in ENTRIES:
        with pytest.raises(InvalidArgumentError, match="a name is of type int"):
            entry({"a": "b", 5: "c"}, b"{}", CREDENTIALS)
        with pytest.raises(InvalidArgumentError, match="_NoPairs"):
            entry(_NoPairs(iter([(5, "c")])), b"{}", CREDENTIALS)


def test_functions_without_a_signature_are_accepted() -> None:
    """Some functions written in C have no signature, so only a call shows which arguments they take."""

    class Unsigned:
        """A function whose signature cannot be read."""

        __signature__ = 5

        def __call__(self) -> None:
            """Do nothing."""

    assert accepts_arguments(Unsigned(), 3)


def test_class_without_a_json_form_is_refused() -> None:
    """What `from_json` decodes to is a class of the models; another object is an error that names its type."""
    models: list[object] = [[], {}, 5, dict]
    for model in models:
        with pytest.raises(InvalidArgumentError, match="must be a class of"):
            from_json(model, b"{}")  # type: ignore[arg-type]
