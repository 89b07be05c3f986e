"""All cases, in the order in which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async.testing.receiver_check._body_cases import BODY_CASES
from veriff_async.testing.receiver_check._effect_cases import EFFECT_CASES
from veriff_async.testing.receiver_check._event_cases import EVENT_CASES
from veriff_async.testing.receiver_check._http_cases import HTTP_CASES
from veriff_async.testing.receiver_check._signature_cases import SIGNATURE_CASES

if TYPE_CHECKING:
    from veriff_async.testing.receiver_check._case import ReceiverCase

__all__ = ("ALL_CASES", "RECEIVER_CASES")

ALL_CASES: Final = (*EVENT_CASES, *SIGNATURE_CASES, *BODY_CASES, *HTTP_CASES, *EFFECT_CASES)

RECEIVER_CASES: Final[tuple[ReceiverCase, ...]] = ALL_CASES
"""All cases of `check_receiver`, in the order in which they run."""
