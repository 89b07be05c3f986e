"""Names of options: an unknown one is a TypeError that suggests the right one, wherever options are accepted."""

from __future__ import annotations

from datetime import UTC, date, datetime
from string import ascii_letters
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from hypothesis import assume, given, strategies as st

from veriff_async import (
    Address,
    ConfigurationError,
    Credentials,
    Document,
    InvalidArgumentError,
    Media,
    Person,
    VeriffClient,
    open_session,
)
from veriff_async._protocol import endpoints
from veriff_async._protocol.json.decode import load_object
from veriff_async._protocol.option_names import check_names, closest, explain_options
from veriff_async._protocol.session_request import CREATE_OPTIONS, as_model, create_body
from veriff_async.batch import Job
from veriff_async.client import ClientOptions
from veriff_async.models import ParsedAddress
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async._protocol.session_request import CreateOptions

CREDENTIALS: Final = Credentials("key", "secret")
PICTURE: Final = Media(b"\xff\xd8\xff\xe0", "face")
CANARY: Final = "Canary7f3a"


def misspelt(name: str) -> tuple[str, ...]:
    """Return ways in which a name is written by mistake."""
    head, *rest = name.split("_")
    camel = head + "".join(part.capitalize() for part in rest)
    forms = {name.replace("_", ""), camel, name.upper(), name + "s", name[:-1], name.replace("_", "-")}
    return tuple(sorted(forms - {name}))


@pytest.mark.parametrize("name", [*CREATE_OPTIONS, *ClientOptions.__annotations__])
def test_misspelt_names_are_recognised(name: str) -> None:
    """A name in another case, without underscores, or one letter off is understood."""
    known = (*CREATE_OPTIONS, *ClientOptions.__annotations__)

    assert {closest(form, known) for form in misspelt(name)} == {name}


@given(name=st.text(min_size=1, max_size=200) | st.text(ascii_letters + "_", min_size=1))
def test_any_unknown_name_is_a_type_error(name: str) -> None:
    """Any unknown name is a TypeError, which shows the name only if it looks like one."""
    assume(name not in CREATE_OPTIONS)
    with pytest.raises(TypeError, match=r"create_session\(\) got") as raised:
        create_body(cast("CreateOptions", {name: "value"}))

    is_shown = str(raised.value).startswith(f"create_session() got an unexpected option {name!r}")
    assert is_shown == (name.isidentifier() and name.isascii() and len(name) <= 40)


@given(name=st.none() | st.integers() | st.binary() | st.tuples())
def test_key_that_is_not_a_text_is_a_type_error(name: object) -> None:
    """A key of another type is an unknown option too."""
    with pytest.raises(TypeError, match="an unknown option"):
        check_names("call()", [name], ("a", "b"))


class Calls:
    """Every place where options or a mapping of them are accepted."""

    @staticmethod
    def create_session(options: Mapping[str, object]) -> object:
        """Build the request."""
        return endpoints.create_session(cast("CreateOptions", options)).sign(CREDENTIALS)

    @staticmethod
    def validate_registry(options: Mapping[str, object]) -> object:
        """Build the request."""
        person = Person(full_name="Ada", id_number="1", date_of_birth="1990-01-01")
        return endpoints.validate_registry(person, cast("Any", options)).sign(CREDENTIALS)

    @staticmethod
    def validate_registry_sync(options: Mapping[str, object]) -> object:
        """Build the request."""
        person = Person(full_name="Ada", id_number="1", date_of_birth="1990-01-01")
        return endpoints.validate_registry_sync(person, cast("Any", options)).sign(CREDENTIALS)

    @staticmethod
    def job(options: Mapping[str, object]) -> object:
        """Make a job."""
        return Job("user-42", [PICTURE], **cast("CreateOptions", options))


@pytest.mark.parametrize("call", [name for name in vars(Calls) if not name.startswith("_")])
@pytest.mark.parametrize("form", ["vendordata", "vendorData", "vendor_date", "VENDOR_DATA"])
def test_unknown_option_of_a_session_suggests_the_right_name(call: str, form: str) -> None:
    """Every call that creates a session refuses an unknown option, and suggests the one that was meant."""
    with pytest.raises(TypeError, match="did you mean 'vendor_data'"):
        getattr(Calls, call)({form: "user-42"})


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("time_outs", "timeouts"),
        ("proxy_env", None),
        ("verifyResponses", "verify_responses"),
        ("maxuploads", "max_uploads"),
    ],
)
def test_unknown_option_of_a_client_suggests_the_right_name(form: str, name: str | None) -> None:
    """The class, from_env and open_session refuse an unknown option alike, whether or not the rest is right."""
    words = f"did you mean '{name}'" if name else "got an unexpected option"
    options: dict[str, Any] = {form: 1}
    for environ in ({}, {"VERIFF_API_KEY": "key", "VERIFF_SHARED_SECRET": "s", "VERIFF_BASE_URL": "https://a.example"}):
        with pytest.raises(TypeError, match=words):
            VeriffClient.from_env(environ, **options)
    with pytest.raises(TypeError, match=words):
        VeriffClient(CREDENTIALS, base_url="https://a.example", **options)


@pytest.mark.anyio
async def test_unknown_option_of_open_session_and_verify() -> None:
    """Both refuse it before the environment is read, a client is made, or anything is sent."""
    options: dict[str, Any] = {"vendordata": "user-42"}
    with pytest.raises(TypeError, match="did you mean 'vendor_data'"):
        async with open_session(**options):
            pytest.fail("a session was created")
    async with Sandbox() as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        with pytest.raises(TypeError, match="did you mean 'vendor_data'"):
            await veriff.verify(media=[PICTURE], **options)
        with pytest.raises(TypeError, match="did you mean 'vendor_data'"):
            await veriff.submit(media=[PICTURE], **options)
        with pytest.raises(TypeError, match="did you mean 'vendor_data'"):
            await veriff.create_session(**options)
        with pytest.raises(TypeError, match="did you mean 'timeout'"):
            await veriff.verify(media=[PICTURE], **cast("Any", {"time_out": 5}))
        assert not sandbox.requests


def test_unknown_detail_of_a_decision_suggests_the_right_name() -> None:
    """A detail that the sandbox would ignore is refused, and the session stays undecided."""
    with Sandbox() as sandbox:
        details: dict[str, Any] = {"reasonCode": 106}
        with pytest.raises(TypeError, match="did you mean 'reason_code'"):
            sandbox.decide("any", "declined", **details)


def test_unknown_option_of_the_sandbox_suggests_the_right_name() -> None:
    """An option of the sandbox is refused like one of the client."""
    options: dict[str, Any] = {"decideafter": 1}
    with pytest.raises(TypeError, match="did you mean 'decide_after'"):
        Sandbox(**options)


@pytest.mark.parametrize("arguments", [("key", "secret"), ("key", "secret", "https://a.example")])
def test_key_and_secret_in_place_of_credentials_are_explained(arguments: tuple[Any, ...]) -> None:
    """Arguments as other clients take them are answered with the call to make, and are not shown."""
    create: Any = VeriffClient
    with pytest.raises(TypeError, match=r"Credentials\(api_key, shared_secret\), base_url="):
        create(*arguments)
    with pytest.raises(TypeError, match=r"from_env\(\)"):
        create(api_key="key", shared_secret="secret")
    with pytest.raises(ConfigurationError, match=r"pass Credentials\(api_key, shared_secret\)") as raised:
        create("hunter2", base_url="https://a.example")
    assert "hunter2" not in str(raised.value)


def test_a_subclass_may_have_options_of_its_own() -> None:
    """The names that count are those of the class that is made."""

    class Own(VeriffClient):
        def __init__(self, credentials: Credentials, *, tenant: str = "", **options: Any) -> None:  # noqa: ANN401
            super().__init__(credentials, **options)
            self.tenant = tenant

    environ = {"VERIFF_API_KEY": "key", "VERIFF_SHARED_SECRET": "s", "VERIFF_BASE_URL": "https://a.example"}
    create: Any = Own.from_env

    assert create(environ, tenant="a").tenant == "a"
    with pytest.raises(TypeError, match="did you mean 'timeouts'"):
        create(environ, timeout=1)


def test_decorated_init_keeps_its_signature() -> None:
    """Help and type checkers see the arguments as they are written."""

    @explain_options("call", "Call it.")
    def call(*, first: int = 1) -> int:
        return first

    assert call(first=2) == 2
    assert call.__name__ == "call"


def body_of(**options: object) -> dict[str, Any]:
    """Return the ``verification`` object that is sent for options."""
    return cast("dict[str, Any]", create_body(cast("CreateOptions", options))["verification"])


def test_person_document_and_address_may_be_mappings() -> None:
    """A mapping of the fields is sent exactly as the model would be."""
    person = {"first_name": "Ada", "date_of_birth": date(1990, 1, 31), "addresses": [{"full_address": "Main Street 1"}]}
    models = body_of(
        person=Person(first_name="Ada", date_of_birth="1990-01-31", addresses=(Address(full_address="Main Street 1"),)),
        document=Document(number="AB123", first_issue="2020-01-01"),
        address=Address(parsed_address=ParsedAddress(street="Main Street", house_number="1")),
    )

    assert models == body_of(
        person=person,
        document={"number": "AB123", "first_issue": date(2020, 1, 1)},
        address={"parsed_address": {"street": "Main Street", "house_number": "1"}},
    )


@pytest.mark.parametrize(
    ("option", "members", "name"),
    [
        ("person", {"firstName": "Ada"}, "first_name"),
        ("person", {"dateofbirth": "1990-01-01"}, "date_of_birth"),
        ("document", {"numbr": "1"}, "number"),
        ("address", {"fulladdress": "x"}, "full_address"),
        ("address", {"parsed_address": {"houseNumber": "1"}}, "house_number"),
        ("person", {"addresses": [{"fullAddress": "x"}]}, "full_address"),
    ],
)
def test_unknown_field_of_a_mapping_suggests_the_right_name(option: str, members: object, name: str) -> None:
    """A mapping in other words than the model's is refused, however deep."""
    with pytest.raises(TypeError, match=f"did you mean '{name}'"):
        body_of(**{option: members})


@given(key=st.text(max_size=20).filter(lambda key: key not in {"first_name", "raw"}))
def test_key_of_a_person_is_never_shown(key: str) -> None:
    """A key of a mapping may be a person's data."""
    members = {key + CANARY: "x"}
    with pytest.raises(TypeError) as raised:
        as_model("person", Person, members)

    assert CANARY not in str(raised.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("person", CANARY),
        ("person", [CANARY]),
        ("person", Document(number=CANARY)),
        ("person", {"first_name": 5}),
        ("person", {"first_name": b"Ada"}),
        ("person", {"gender": ["M"]}),
        ("person", {"is_deceased": "no"}),
        ("person", {"addresses": CANARY}),
        ("person", {"addresses": [CANARY]}),
        ("person", {"date_of_birth": datetime(1990, 1, 1, tzinfo=UTC)}),
        ("person", {"date_of_birth": 19900101}),
        ("person", Person(first_name=cast("str", 5))),
        ("person", Person(addresses=cast("Any", [Address()]))),
        ("document", {"number": 123}),
        ("document", {"type": 5}),
        ("address", "Main Street 1"),
        ("address", {"parsed_address": "Main Street 1"}),
        ("extra", [CANARY]),
        ("consents", 5),
        ("proof_of_address_types", 5),
        ("vendor_data", 5),
    ],
)
def test_value_of_another_kind_is_refused_by_its_option(option: str, value: object) -> None:
    """Anything but the model, a mapping of its fields or a date is refused, and the value is not shown."""
    with pytest.raises(InvalidArgumentError, match=option) as raised:
        body_of(**{option: value})

    assert CANARY not in str(raised.value)


_FIELDS: Final = st.sampled_from(["first_name", "number", "addresses", "parsed_address", "gender", "x"])
_TIMES: Final = st.dates() | st.datetimes()


@given(
    option=st.sampled_from(CREATE_OPTIONS),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=3) | _TIMES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_FIELDS, inner),
        max_leaves=6,
    ),
)
def test_any_value_is_sent_or_refused(option: str, value: object) -> None:
    """Any value of an option is sent as JSON, or refused with our error or a TypeError that names a field."""
    try:
        request = endpoints.create_session(cast("CreateOptions", {option: value})).sign(CREDENTIALS)
    except InvalidArgumentError:
        return
    except TypeError as error:
        words = str(error)
    else:
        assert "verification" in load_object(request.body or b"")
        return
    assert "got an unknown option" in words


def test_dates_are_sent_as_texts() -> None:
    """A date is sent as Veriff writes it, in a model and in a mapping."""
    day: Any = date(2020, 2, 29)

    for person in (Person(date_of_birth=day), {"date_of_birth": day}):
        assert body_of(person=person) == {"person": {"dateOfBirth": "2020-02-29"}}
    for document in (Document(first_issue=day, valid_until=day), {"first_issue": day, "valid_until": day}):
        assert body_of(document=document) == {"document": {"firstIssue": "2020-02-29", "validUntil": "2020-02-29"}}


def test_dates_of_a_decision_are_sent_as_texts() -> None:
    """The sandbox writes a date of a model as Veriff does, and refuses a model of another class."""
    day: Any = date(2020, 2, 29)
    with Sandbox() as sandbox:
        with pytest.raises(InvalidArgumentError, match="person must be a Person"):
            sandbox.decide("any", "approved", person=cast("Any", "Ada"))
        with pytest.raises(InvalidArgumentError, match="no such session"):
            sandbox.decide("any", "approved", person=Person(date_of_birth=day))


def test_other_calls_refuse_values_of_another_kind() -> None:
    """Data of a device and of a chip are objects of their classes; a mapping is refused clearly."""
    with pytest.raises(InvalidArgumentError, match="CollectedData"):
        endpoints.send_collected_data("1", cast("Any", {"provider_name": "us"})).sign(CREDENTIALS)
    with pytest.raises(InvalidArgumentError, match="NfcData"):
        endpoints.upload_nfc("1", cast("Any", {"com": b"1"})).sign(CREDENTIALS)
    with pytest.raises(TypeError, match="options"):
        Job("user-42", [PICTURE], **cast("Any", {"options": {"vendor_data": "x"}}))
