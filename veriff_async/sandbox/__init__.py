"""A local Veriff: run everything for real, without an account."""

from veriff_async.sandbox._clock import Clock, RealClock, VirtualClock
from veriff_async.sandbox._face_import import ImportedFace
from veriff_async.sandbox._faults import Fault
from veriff_async.sandbox._options import SandboxOptions
from veriff_async.sandbox._records import AttemptView, Delivery, ReceivedRequest, SessionView, StoredMedia, WebhookKind
from veriff_async.sandbox._server import Sandbox

__all__ = (
    "AttemptView",
    "Clock",
    "Delivery",
    "Fault",
    "ImportedFace",
    "RealClock",
    "ReceivedRequest",
    "Sandbox",
    "SandboxOptions",
    "SessionView",
    "StoredMedia",
    "VirtualClock",
    "WebhookKind",
)
