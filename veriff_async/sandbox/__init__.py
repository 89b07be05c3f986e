"""A local Veriff: run everything for real, without an account."""

from veriff_async.sandbox._behaviour import Rules
from veriff_async.sandbox._clock import Clock, RealClock, VirtualClock
from veriff_async.sandbox._face_import import ImportedFace
from veriff_async.sandbox._faults import Fault
from veriff_async.sandbox._records import AttemptView, Delivery, SeenRequest, SessionView, StoredMedia, WebhookKind
from veriff_async.sandbox._server import Sandbox

__all__ = (
    "AttemptView",
    "Clock",
    "Delivery",
    "Fault",
    "ImportedFace",
    "RealClock",
    "Rules",
    "Sandbox",
    "SeenRequest",
    "SessionView",
    "StoredMedia",
    "VirtualClock",
    "WebhookKind",
)
