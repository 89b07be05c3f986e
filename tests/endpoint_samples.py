"""Valid arguments for every endpoint and for the public methods that call them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from veriff_async import CollectedData, Device, FaceImage, FraudReport, Network, NfcData, Person
from veriff_async._protocol import endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async._protocol.call import Call

ID: Final = "8f0d1ab6-0000-4000-8000-000000000001"
SAMPLES: Final[dict[str, object]] = {
    "session_id": ID,
    "attempt_id": ID,
    "media_id": ID,
    "address_id": ID,
    "options": {},
    "person": Person(full_name="Ada Byron", id_number="1", date_of_birth="1990-01-01"),
    "nfc": NfcData(com=b"1", sod=b"2", dg1=b"3", dg2=b"4"),
    "data": CollectedData(provider_name="us", device=Device(fingerprint="f"), network=Network(address_v4="192.0.2.1")),
    "reports": [FraudReport(ID, "injected_media")],
    "session_ids": [ID],
    "certificate_id": ID,
    "file_id": ID,
    "images": [FaceImage("name", b"\xff\xd8\xff")],
    "extra": {},
}


def sample_arguments(function: Callable[..., object]) -> tuple[list[object], dict[str, object]]:
    """Return valid positional and keyword arguments for a function whose parameters are named as in `SAMPLES`."""
    positional: list[object] = []
    keywords: dict[str, object] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        value = SAMPLES[parameter.name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += value if isinstance(value, list) else [value]
        elif parameter.kind is parameter.KEYWORD_ONLY:
            keywords[parameter.name] = value
        else:
            positional.append(value)
    return positional, keywords


def sample_call(name: str) -> Call[Any]:
    """Return a call of an endpoint with valid arguments."""
    build: Callable[..., Call[Any]] = getattr(endpoints, name)
    positional, keywords = sample_arguments(build)
    return build(*positional, **keywords)
