"""Veriff's own error codes: the class of the error, and one sentence with the remedy.

The table follows https://devdocs.veriff.com/docs/some-troubleshooting-codes-table (1001 to 1400) and public
transcriptions of its later part; its own title says that it is incomplete, so an unknown code is shown unchanged.
"""

from __future__ import annotations

from typing import Final

from veriff_async import errors

__all__ = ("class_of", "remedy")

_KEY: Final = "compare VERIFF_API_KEY with the integration's API Keys page"
_SECRET: Final = "compare VERIFF_SHARED_SECRET with the integration's API Keys page"  # noqa: S105  a remedy, not a secret

_BAD_REQUEST: Final[dict[str, str]] = {
    "1001": "the id in the path is too short or too long: pass it as Veriff wrote it",
    "1002": "the id in the path is not a UUID: pass it as Veriff wrote it",
    "1003": "the id was used before: do not choose ids yourself",
    # In samples of the reference only, for a request that is not valid and for a missing key; in no table.
    "1101": "the request is not valid, or its API key is missing",
    "1102": "a required parameter is missing",
    "1104": "a parameter is not valid",
    "1201": "the timestamp is older than an hour",
    "1202": "the timestamp is not ISO 8601 with an offset",
    "1203": "a date is not YYYY-MM-DD",
    "1301": "a requested feature is not supported",
    "1302": "the callback must be an https address",
    "1303": "the status is not one that can be set",
    "1304": "the status of the session does not allow it, for example because the session is submitted already",
    "1305": "the session is being decided: delete it after its decision",
    # Documented next to 1305; its trigger is not known.
    "1306": "the session is in progress, so it cannot be deleted yet",
    "1308": "the id number is missing",
    "1309": "first and last name, or the full name, are missing",
    "1310": "date of birth or address is missing",
    "1400": "the image data are missing",
    "1401": "the image is not valid base64",
    "1402": "Veriff does not know this context: see MediaContext",
    "1403": "the image property is missing",
    "1500": "vendor_data is longer than 1000 characters",
    "1501": "vendor_data is not a text",
    "2003": "the date of birth is not a date",
    "2101": "the document number must have 6 to 9 characters",
    "2102": "the document number may hold A to Z and 0 to 9 only",
    "2103": "the document type is not supported",
    "2104": "the document's country is not supported",
}
_AUTHENTICATION: Final[dict[str, str]] = {
    "1801": "the API key is missing",
    "1802": f"the API key is not a UUID: {_KEY}",
    "1803": f"no integration has this API key: {_KEY}",
    "1804": "the integration is not active: activate it in the Customer Portal",
    "1812": "the signature is not a SHA-256 in hex",
    "1813": f"the signature of the id does not match: {_SECRET}",
    "1814": f"the signature of the body does not match: {_SECRET}",
    "1818": f"the signature of the id does not match: {_SECRET}",
    "1819": f"the signature of the body does not match: {_SECRET}",
}
_REMEDIES: Final[dict[str, tuple[type[errors.ApiError], str]]] = {
    **{code: (errors.BadRequestError, remedy) for code, remedy in _BAD_REQUEST.items()},
    **{code: (errors.AuthenticationError, remedy) for code, remedy in _AUTHENTICATION.items()},
    "RATE_LIMIT_EXCEEDED": (errors.RateLimitedError, "too many requests: slow down"),
    "INTERNAL_SERVER_ERROR": (errors.ServerError, "Veriff failed: try again later"),
}

_BY_STATUS: Final[dict[int, str]] = {
    400: "the request was refused",
    401: f"the API key or signature was refused: {_KEY} and {_SECRET}",
    # https://devdocs.veriff.com/docs/ip-allowlist-for-customer-portal-and-public-api
    403: "the integration may not do this: ask Veriff to enable it; also check the IP allowlist in the Customer Portal",
    # Guess: data that a session does not have, for example a watchlist screening without that product, get it too.
    404: "this integration knows no such session, attempt or media, or has no such data for it: check the id and which "
    "integration made it",
    409: "the session is past this step, for example already submitted",
    413: "the body is larger than the server takes: send a smaller file",
    415: "the server does not take this type of body",
    429: "too many requests: slow down",
}


_CLASSES: Final[dict[int, type[errors.ApiError]]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    413: errors.PayloadTooLargeError,
    429: errors.RateLimitedError,
}
_BAD_REQUEST_STATUS: Final = 400
_SERVER: Final = 500


def class_of(status: int, code: str | None) -> type[errors.ApiError]:
    """Return the class of an error: by its status, and for a plain 400 by its code.

    Which status goes with a code is documented for a few only: a refused signature may come as 400 or 401.
    """
    if status == _BAD_REQUEST_STATUS and code in _REMEDIES:
        return _REMEDIES[code][0]
    # Any other 4xx says that the request is wrong, even if the library does not know the status.
    default = errors.ServerError if status >= _SERVER else errors.BadRequestError
    return _CLASSES.get(status, default)


def remedy(status: int, code: str | None) -> str:
    """Return the remedy for a refusal, without a final full stop."""
    if code in _REMEDIES:
        return _REMEDIES[code][1]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    # A redirect is a refusal here, because following it would send key, signature and pictures to another host.
    if 300 <= status < 400:  # noqa: PLR2004
        return "the server redirects, and the client does not send credentials to other hosts: set the right base_url"
    return "Veriff failed: try again later" if status >= _SERVER else "the request was refused"
