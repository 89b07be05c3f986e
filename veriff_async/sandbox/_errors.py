"""Errors as responses: HTTP status, Veriff's code, and a message.

The codes are documented (https://devdocs.veriff.com/docs/some-troubleshooting-codes-table). The HTTP status of a code
is mostly a guess, and responses 404, 409 and 413 have no known code. Error responses have three documented forms: the
usual one, that of a deletion, whose ``status`` is a number, and that of the feedback API, which has no ``status``.

Methods of `Sandbox` raise `InvalidArgumentError`. Its two subclasses let the control API respond with 404 and 409.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from veriff_async.errors import InvalidArgumentError

__all__ = ("ErrorForm", "HTTPError", "ImpossibleChangeError", "UnknownRecordError")

ErrorForm: TypeAlias = Literal["usual", "deletion", "feedback"]


class UnknownRecordError(InvalidArgumentError):
    """The sandbox has no session, webhook or other record with this id."""


class ImpossibleChangeError(InvalidArgumentError):
    """The present state does not allow this change."""


class HTTPError(Exception):
    """An error response. It is raised anywhere while a request is handled, and undoes the transaction."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        """Refuse a request.

        Args:
            status: HTTP status.
            code: Veriff's code; ``None`` if no code is known.
            message: Text for people; clients must not depend on it.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def body(self, form: ErrorForm) -> dict[str, object]:
        """Return the JSON of the response. The code is a string in it, as documented."""
        status: dict[str, object] = {"status": self.status} if form == "deletion" else {"status": "fail"}
        code = {} if self.code is None else {"code": self.code}
        return {**({} if form == "feedback" else status), **code, "message": self.message}
