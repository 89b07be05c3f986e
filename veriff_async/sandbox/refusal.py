"""How the sandbox says no: HTTP status, Veriff's code, and words.

Codes from https://devdocs.veriff.com/docs/some-troubleshooting-codes-table. Which HTTP status goes with a code is
mostly a guess; answers 404, 409 and 413 have no code that is known.
"""

from __future__ import annotations

__all__ = ("Refusal",)


class Refusal(Exception):  # noqa: N818  an answer, raised so that rules read as rules
    """An answer that is no success."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        """Take what the answer says."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def body(self) -> dict[str, object]:
        """Return the JSON of the answer: a code is a text in it, as documented."""
        code = {} if self.code is None else {"code": self.code}
        return {"status": "fail", **code, "message": self.message}
