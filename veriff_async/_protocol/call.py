"""A call of an endpoint, and the request that it becomes: which text is signed, in which headers, for which host.

The raw body is signed if there is one. Otherwise the id in the path is signed, or the whole path if it has no id; the
query never is (https://devdocs.veriff.com/apidocs/veriff-public-api-guides). The feedback API has its own headers, and
signs the path before the body (https://devdocs.veriff.com/apidocs/report-fraud).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import field

from veriff_async._protocol import headers
from veriff_async._protocol.request import Request
from veriff_async._records import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async._protocol.base_url import Host
    from veriff_async._protocol.request import Method
    from veriff_async._protocol.response import Response
    from veriff_async.credentials import Credentials

__all__ = ("Call",)

_Result = TypeVar("_Result")


@record(kw_only=True)
class Call(Generic[_Result]):
    """One call of an endpoint: a request that is not signed yet, and the function that parses its response.

    Attributes:
        operation: See `Request`, also for `path_template`, `session_id`, `method`, `path`, `body`, `repeatable`,
            `creates_session`, `quota` and `host`.
        parse: Returns the result of a response, or raises: `ApiError` if Veriff refused, `ResponseError` or
            `OutcomeUnknownError` if a success cannot be parsed.
        signed_id: The id that is signed if the request has no body.
        is_streamed: Whether the body is streamed and was signed before.
        accept: The media type to accept instead of JSON.
    """

    operation: str
    method: Method
    path_template: str
    path: str
    parse: Callable[[Response], _Result] = field(repr=False)
    session_id: str | None = None
    signed_id: str = ""
    body: bytes | None = field(default=None, repr=False)
    is_streamed: bool = False
    accept: str | None = None
    repeatable: bool = True
    creates_session: bool = False
    quota: bool = False
    host: Host = "api"

    def sign(self, credentials: Credentials, *, signature: str | None = None) -> Request:
        """Return the signed request."""
        if signature is None:
            signature = credentials.sign(self._signed_text())
        if self.host == "feedback":
            signed = {headers.VRF_AUTH_CLIENT: credentials.api_key, headers.VRF_HMAC_SIGNATURE: signature}
        else:
            signed = {headers.AUTH_CLIENT: credentials.api_key, headers.HMAC_SIGNATURE: signature}
            if credentials.integration_id is not None:
                signed[headers.INTEGRATION_ID] = credentials.integration_id
        if self.host == "sync":
            # Documented as required there, in addition to the usual pair.
            signed[headers.API_KEY] = credentials.api_key
        if self.body is not None or self.is_streamed:
            signed["Content-Type"] = "application/json"
        if self.accept is not None:
            signed["Accept"] = self.accept
        return Request(
            operation=self.operation,
            method=self.method,
            path_template=self.path_template,
            path=self.path,
            session_id=self.session_id,
            headers=signed,
            body=self.body,
            repeatable=self.repeatable,
            creates_session=self.creates_session,
            quota=self.quota,
            host=self.host,
            credentials=credentials,
        )

    def _signed_text(self) -> bytes:
        if self.host == "feedback":
            return self.path.encode() if self.body is None else self.path.encode() + b"\n" + self.body
        return self.signed_id.encode() if self.body is None else self.body
