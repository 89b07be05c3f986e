"""Every entry point names asyncio as a requirement if another library runs the coroutine."""

from __future__ import annotations

import asyncio
import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

import pytest

from tests.loops import every_loop
from veriff_async import (
    CollectedData,
    ConfigurationError,
    Credentials,
    Device,
    FraudReport,
    Media,
    Network,
    NfcData,
    Person,
    VeriffClient,
    WebhookReceiver,
)
from veriff_async._event_loop import require_asyncio
from veriff_async.batch import Job, MemoryJournal, PostgresJournal, RedisJournal, SqliteJournal
from veriff_async.inbox import (
    Delivery,
    DeliveryOutcome,
    DeliveryStatus,
    MemoryInbox,
    RedisInbox,
    SessionSearch,
    SqliteInbox,
)
from veriff_async.models import FraudCategory
from veriff_async.sandbox import Sandbox
from veriff_async.testing import decision_event, session_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

CREDENTIALS: Final = Credentials("3d1b5b0c-0000-4000-8000-00000000ab01", "abcdef12-abcd-abcd-abcd-abcdef012345")
ID: Final = "11111111-2222-3333-4444-555555555555"
PICTURE: Final = Media(b"\xff\xd8\xff\xe0", "face")
MODULES: Final = tuple(f"veriff_async{name}" for name in ("", ".inbox", ".webhooks", ".batch", ".sandbox"))
CLASSES: Final = {"VeriffClient", "VerificationSession", "WebhookReceiver", "MemoryInbox", "SqliteInbox", "RedisInbox"}
OTHER_CLASSES: Final = {"MemoryJournal", "SqliteJournal", "RedisJournal", "PostgresJournal", "Sandbox"}
ARGUMENTS: Final[dict[str, Callable[[Callable[..., object]], object]]] = {
    "upload": lambda call: call(PICTURE),
    "check_media": lambda call: call(PICTURE),
    "import_faces": lambda call: call(session_ids=[ID]),
    "report_fraud": lambda call: call(FraudReport(ID, [FraudCategory.INJECTED_MEDIA])),
}


def objects(folder: Path) -> dict[str, object]:
    """Return an object of each class with coroutines, without opening it."""
    client = VeriffClient(CREDENTIALS, base_url="http://127.0.0.1:9")
    return {
        "VeriffClient": client,
        "VerificationSession": client.session(ID),
        "WebhookReceiver": WebhookReceiver(CREDENTIALS, MemoryInbox()),
        "MemoryInbox": MemoryInbox(),
        "SqliteInbox": SqliteInbox(folder / "inbox"),
        "RedisInbox": RedisInbox("redis://127.0.0.1:9"),
        "MemoryJournal": MemoryJournal(),
        "SqliteJournal": SqliteJournal(folder / "journal"),
        "RedisJournal": RedisJournal("redis://127.0.0.1:9"),
        "PostgresJournal": PostgresJournal("postgresql://127.0.0.1:9"),
        "Sandbox": Sandbox(),
    }


DELIVERY: Final = Delivery(event=session_event("s", "started"), attempt=1, recorded_at=1.0, lease="a")


def values(instances: dict[str, object]) -> dict[str, object]:
    """Return arguments by name that suffice for the first step of a call."""
    return {
        "client": instances["VeriffClient"],
        "inbox": MemoryInbox(),
        "journal": MemoryJournal(),
        "media": [PICTURE],
        "person": Person(first_name="Ada", last_name="Byron", id_number="1", date_of_birth="1990-01-01"),
        "event": session_event("s", "started"),
        "session_ids": [ID],
        "limit": 1,
        "seconds": 1.0,
        "search": SessionSearch(),
        "delivery": DELIVERY,
        "deliveries": [DELIVERY],
        "outcome": DeliveryOutcome(status=DeliveryStatus.HANDLED),
        "jobs": [],
        "job": Job("a", media=[PICTURE]),
        "headers": {},
        "body": b"{}",
        "data": CollectedData(
            provider_name="us", device=Device(fingerprint="f"), network=Network(address_v4="192.0.2.1")
        ),
        "nfc": NfcData(com=b"1", sod=b"2", dg1=b"3", dg2=b"4"),
    }


def is_awaited(member: object) -> bool:
    """Return whether a function is awaited, iterated or entered asynchronously."""
    inner = inspect.unwrap(cast("Callable[..., object]", member)) if callable(member) else member
    return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)


def entry_points() -> list[str]:
    """Return every public coroutine function, asynchronous generator and context manager, by its path."""
    paths: dict[str, None] = {}
    for module in map(import_module, MODULES):
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member) and member.__name__ in CLASSES | OTHER_CLASSES:
                entries = (attribute for attribute in dir(member) if is_entry(member, attribute))
                paths |= dict.fromkeys(f"{member.__name__}.{attribute}" for attribute in entries)
            elif not inspect.isclass(member) and is_awaited(member):
                paths[f"{module.__name__}:{name}"] = None
    return list(paths)


def is_entry(kind: type[object], name: str) -> bool:
    """Return whether a member of a class is awaited by its users."""
    is_public = not name.startswith("_") or name == "__aenter__"
    return is_public and is_awaited(inspect.getattr_static(kind, name))


def call_entry_point(path: str, folder: Path) -> object:
    """Call an entry point with arguments for its first step."""
    instances = objects(folder)
    if ":" in path:
        module, name = path.split(":")
        call = getattr(import_module(module), name)
    else:
        owner, name = path.split(".")
        call = getattr(instances[owner], name)
    if name in ARGUMENTS:
        return ARGUMENTS[name](call)
    samples, positional, named = values(instances), list[object](), dict[str, object]()
    for parameter in inspect.signature(call).parameters.values():
        is_rest = parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        if parameter.default is parameter.empty and not is_rest:
            value = samples.get(parameter.name, ID)
            if parameter.kind is parameter.KEYWORD_ONLY:
                named[parameter.name] = value
            else:
                positional.append(value)
    return call(*positional, **named)


def step(call: object) -> None:
    """Run the first step of a call, as a library other than asyncio does."""
    if hasattr(call, "__aenter__"):
        call = cast("AbstractAsyncContextManager[object]", call).__aenter__()
    elif hasattr(call, "__anext__"):
        call = cast("AsyncIterator[object]", call).__anext__()
    coroutine = cast("Coroutine[object, None, object]", call)
    try:
        coroutine.send(None)
    except StopIteration:
        pytest.fail("the call returned without an error")
    finally:
        if hasattr(coroutine, "close"):
            coroutine.close()


@pytest.mark.parametrize("path", entry_points())
def test_entry_point_requires_asyncio(path: str, tmp_path: Path) -> None:
    """Each public coroutine, iterator and context manager names the requirement outside of asyncio, as under trio."""
    with pytest.raises(ConfigurationError, match=r"requires asyncio: use asyncio.run\(\)"):
        step(call_entry_point(path, tmp_path))


def test_search_finds_the_entry_points() -> None:
    """The list of entry points has known examples of each kind, and more than 80 entries."""
    paths = entry_points()

    expected = {"veriff_async:open_session", "VeriffClient.verify", "SqliteInbox.record", "Sandbox.__aenter__"}
    assert expected <= set(paths)
    assert len(paths) > 80


@pytest.mark.anyio
@every_loop
async def test_trio_guest_in_an_asyncio_loop_is_rejected() -> None:
    """Trio as a guest of asyncio runs in callbacks of the loop, where no asyncio task is current."""
    errors: list[Exception] = []

    def guest() -> None:
        try:
            require_asyncio()
        except ConfigurationError as error:
            errors.append(error)

    asyncio.get_running_loop().call_soon(guest)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert 1 == len(errors)
    require_asyncio()
    await asyncio.create_task(MemoryInbox().record(decision_event("s", "approved")))
