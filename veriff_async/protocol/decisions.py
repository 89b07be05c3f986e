"""The decision payload, which comes by webhook and as an answer in the same form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veriff_async.models.decision import Decision
from veriff_async.models.json import as_object
from veriff_async.protocol.codec import UnreadableError, read

if TYPE_CHECKING:
    from veriff_async.models.json import JsonObject

__all__ = ("decision_from",)


def decision_from(root: JsonObject) -> Decision:
    """Read a decision from its root object, ``{"status": ..., "verification": {...}, "technicalData": {...}}``.

    Raises:
        UnreadableError: There is no ``verification`` object, or it has no id or status.
    """
    verification = as_object(root.get("verification"))
    if verification is None:
        problem = "expected an object @ $.verification"
        raise UnreadableError(problem)
    # Two values stand alone in an object of their own: the risk score, and the address of the device.
    score = as_object(verification.get("riskScore"))
    technical = as_object(root.get("technicalData"))
    lifted = {
        **verification,
        "riskScore": score.get("score") if score is not None else verification.get("riskScore"),
        "ip": technical.get("ip") if technical is not None else None,
    }
    return read(Decision, lifted, path="$.verification", raw=root)
