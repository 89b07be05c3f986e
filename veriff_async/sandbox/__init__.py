"""A local Veriff: run everything for real, without an account."""

from importlib import import_module
from typing import TYPE_CHECKING

from veriff_async.sandbox._chaos.delay import Delay
from veriff_async.sandbox._chaos.profile import ChaosProfile
from veriff_async.sandbox._chaos.rules import Outage, RequestChaos, WebhookChaos
from veriff_async.sandbox._clock import Clock, RealClock, VirtualClock
from veriff_async.sandbox._face_import import ImportedFace
from veriff_async.sandbox._faults import Fault, WaitingFault
from veriff_async.sandbox._records import (
    AttemptView,
    Delivery,
    ReceivedRequest,
    SessionPage,
    SessionView,
    StoredMedia,
    WebhookKind,
)
from veriff_async.sandbox._rules import SandboxOptions, SandboxRules
from veriff_async.sandbox._server import Sandbox
from veriff_async.sandbox._signature_verdict import SignatureVerdict
from veriff_async.sandbox._timeline import Timeline
from veriff_async.sandbox._timeline_entries import (
    FaultEntry,
    GapEntry,
    RequestEntry,
    SessionEntry,
    SettingEntry,
    TimelineEntry,
    TimelineKind,
    WebhookEntry,
)
from veriff_async.sandbox._tls import TLSFiles
from veriff_async.sandbox._webhook_records import WebhookState, WebhookView

if TYPE_CHECKING:
    from veriff_async.sandbox._recording import Recorder, Replay

__all__ = (
    "AttemptView",
    "ChaosProfile",
    "Clock",
    "Delay",
    "Delivery",
    "Fault",
    "FaultEntry",
    "GapEntry",
    "ImportedFace",
    "Outage",
    "RealClock",
    "ReceivedRequest",
    "Recorder",
    "Replay",
    "RequestChaos",
    "RequestEntry",
    "Sandbox",
    "SandboxOptions",
    "SandboxRules",
    "SessionEntry",
    "SessionPage",
    "SessionView",
    "SettingEntry",
    "SignatureVerdict",
    "StoredMedia",
    "TLSFiles",
    "Timeline",
    "TimelineEntry",
    "TimelineKind",
    "VirtualClock",
    "WaitingFault",
    "WebhookChaos",
    "WebhookEntry",
    "WebhookKind",
    "WebhookState",
    "WebhookView",
)

# Loaded at their first use: most programs neither record nor replay, and the import takes 30 ms.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in {"Recorder", "Replay"}:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(import_module("veriff_async.sandbox._recording"), name)

    def __dir__() -> list[str]:
        return sorted(__all__)
