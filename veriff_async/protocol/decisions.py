"""The decision payload, which comes by webhook and as an answer in the same form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veriff_async.models.decision import Decision
from veriff_async.protocol.codec import UnreadableError, read

if TYPE_CHECKING:
    from veriff_async.models.json import JsonObject

__all__ = ("decision_from",)


def decision_from(root: JsonObject) -> Decision:
    """Read a decision from its root object, ``{"status": ..., "verification": {...}, "technicalData": {...}}``.

    Raises:
        UnreadableError: There is no ``verification`` object, or it has no id or status.
    """
    verification, technical = root.get("verification"), root.get("technicalData")
    if not isinstance(verification, dict):
        problem = "expected an object @ $.verification"
        raise UnreadableError(problem)
    # Two values stand alone in an object of their own: the risk score, and the address of the device.
    score = verification.get("riskScore")
    lifted = {
        **verification,
        "riskScore": score.get("score") if isinstance(score, dict) else score,
        "ip": technical.get("ip") if isinstance(technical, dict) else None,
    }
    return read(Decision, lifted, path="$.verification", raw=root)
