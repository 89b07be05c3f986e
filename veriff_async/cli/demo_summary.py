"""What a demonstration came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from veriff_async import Decision, UploadedMedia

__all__ = ("Outcome",)


@frozen(kw_only=True)
class Outcome:
    """What happened, for the telling.

    Attributes:
        base_url: Where the sandbox was.
        uploaded: The receipts, in the order of the pictures.
        size: Bytes of all files.
        sent: Bytes of all request bodies that carried them.
        upload_seconds: From the first upload to the last receipt.
        decision_seconds: From the submission to the decision.
        decision: What was decided.
    """

    base_url: str
    uploaded: tuple[UploadedMedia, ...]
    size: int
    sent: int
    upload_seconds: float
    decision_seconds: float
    decision: Decision
