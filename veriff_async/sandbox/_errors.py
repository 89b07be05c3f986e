"""How the sandbox says no: HTTP status, Veriff's code, and words.

Codes from https://devdocs.veriff.com/docs/some-troubleshooting-codes-table. Which HTTP status goes with a code is
mostly a guess; answers 404, 409 and 413 have no code that is known. An error has three documented forms: the usual one,
that of a deletion, whose status is a number, and that of the feedback API, which has none.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ("Form", "Refusal")

Form: TypeAlias = Literal["usual", "deletion", "feedback"]


class Refusal(Exception):  # noqa: N818  an answer, raised so that rules read as rules
    """An answer that is no success."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        """Take what the answer says."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def body(self, form: Form) -> dict[str, object]:
        """Return the JSON of the answer: a code is a text in it, as documented."""
        status: dict[str, object] = {"status": self.status} if form == "deletion" else {"status": "fail"}
        code = {} if self.code is None else {"code": self.code}
        return {**({} if form == "feedback" else status), **code, "message": self.message}
