"""A local Veriff: run everything for real, without an account."""

from veriff_async.sandbox.box import Sandbox
from veriff_async.sandbox.clock import Clock, RealClock, VirtualClock
from veriff_async.sandbox.faces import ImportedFace
from veriff_async.sandbox.faults import Fault
from veriff_async.sandbox.records import AttemptView, Delivery, SeenRequest, SessionView, StoredMedia, WebhookKind
from veriff_async.sandbox.rules import Rules

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
