"""The options of a client: their types, their checks, and the environment variables of some of them."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Final, Literal, TypedDict, cast

from attrs import field, frozen

from veriff_async._http.ca_bundle import ca_bundle_from, load_ca_bundle
from veriff_async._http.pool import check_limits, check_proxies, check_session_options
from veriff_async._logging import log_fields, show_log
from veriff_async._protocol.arguments import check_flag, check_number, check_optional, type_name
from veriff_async._protocol.base_url import (
    DeprecatedHostWarning,
    deprecation,
    hosts_of,
    insecure_host,
    insecure_hosts,
    insecure_hosts_from,
)
from veriff_async._protocol.option_names import check_names
from veriff_async._protocol.session_request import CREATE_OPTIONS, CreateOptions
from veriff_async._telemetry.setup import check_telemetry
from veriff_async._waiting.decision_memory import DecisionMemory
from veriff_async.config import CallOptions, PollPolicy, RetryPolicy, Timeouts
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from os import PathLike
    from ssl import SSLContext

    from aiohttp import ClientSession

    from veriff_async._protocol.base_url import Host
    from veriff_async._protocol.picture_thresholds import InspectionThresholds
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.middleware import Middleware
    from veriff_async.models.inspection import FaceDetector
    from veriff_async.telemetry import Telemetry

__all__ = (
    "FEEDBACK_URL_VARIABLE",
    "SYNC_URL_VARIABLE",
    "ClientOptions",
    "SessionOptions",
    "Settings",
    "add_options",
    "check_call_options",
    "check_options",
    "optional_variables",
    "split_options",
    "warn_about_hosts",
)

_LOG: Final = logging.getLogger("veriff_async.client")

FEEDBACK_URL_VARIABLE: Final = "VERIFF_FEEDBACK_URL"
SYNC_URL_VARIABLE: Final = "VERIFF_SYNC_URL"


class ClientOptions(TypedDict, total=False):
    """The options of `VeriffClient`. Each has a default that suits production."""

    feedback_url: str | None
    sync_url: str | None
    inbox: Inbox | None
    retry: RetryPolicy | None
    poll: PollPolicy | None
    timeouts: Timeouts | None
    max_connections: int
    max_uploads: int
    max_downloads: int
    http_session: ClientSession | None
    trust_env: bool
    ca_bundle: str | PathLike[str] | None
    allow_insecure_hosts: Collection[str]
    verify_responses: bool
    thresholds: InspectionThresholds | None
    face_detector: FaceDetector | None
    telemetry: Telemetry | Literal[False] | None
    middleware: Sequence[Middleware]


class SessionOptions(ClientOptions, CreateOptions, total=False):
    """The options of `open_session`: those of the client and those of the session."""


@frozen(kw_only=True)
class Settings:
    """The checked options of a client, kept to open it again after it was closed."""

    hosts: dict[Host, str]
    inbox: Inbox | None
    retry: RetryPolicy
    poll: PollPolicy | None
    timeouts: Timeouts
    max_connections: int
    max_uploads: int
    max_downloads: int
    http_session: ClientSession | None
    trust_env: bool
    tls: SSLContext | None
    verify_responses: bool
    thresholds: InspectionThresholds | None
    face_detector: FaceDetector | None
    telemetry: Telemetry | Literal[False] | None
    middleware: tuple[Middleware, ...]
    # Kept too: when the client is open again, Veriff may still return the decision that a submission answered.
    memory: DecisionMemory = field(factory=DecisionMemory)


def check_options(  # noqa: PLR0913  the options of a client
    *,
    base_url: str,
    feedback_url: str | None,
    sync_url: str | None,
    inbox: Inbox | None,
    retry: RetryPolicy | None,
    poll: PollPolicy | None,
    timeouts: Timeouts | None,
    max_connections: int,
    max_uploads: int,
    max_downloads: int,
    http_session: ClientSession | None,
    trust_env: bool,
    ca_bundle: str | PathLike[str] | None,
    allow_insecure_hosts: Collection[str],
    verify_responses: bool,
    thresholds: InspectionThresholds | None,
    face_detector: FaceDetector | None,
    telemetry: Telemetry | Literal[False] | None,
    middleware: Sequence[Middleware],
) -> Settings:
    """Check the options of a client, and replace ``None`` by defaults.

    Raises:
        ConfigurationError: An option is invalid; the message names it.
    """
    show_log()
    for name, flag in (("trust_env", trust_env), ("verify_responses", verify_responses)):
        check_flag(name, flag)
    for name, policy in (("retry", retry), ("poll", poll), ("timeouts", timeouts)):
        _check_policy(name, policy, "for the defaults" if name == "timeouts" else "for the default")
    _check_inbox(inbox)
    check_telemetry(telemetry)
    check_limits(max_connections, max_uploads, max_downloads, http_session)
    _check_inspection(thresholds, face_detector)
    hosts = hosts_of(
        base_url,
        feedback_url=feedback_url,
        sync_url=sync_url,
        allow_insecure=insecure_hosts(allow_insecure_hosts),
    )
    check_session_options(http_session, trust_env=trust_env, ca_bundle=ca_bundle)
    check_proxies(trust_env=trust_env)
    return Settings(
        hosts=hosts,
        inbox=inbox,
        retry=retry or RetryPolicy(),
        poll=poll,
        timeouts=timeouts or Timeouts(),
        max_connections=max_connections,
        max_uploads=max_uploads,
        max_downloads=max_downloads,
        http_session=http_session,
        trust_env=trust_env,
        tls=None if ca_bundle is None else load_ca_bundle(ca_bundle),
        verify_responses=verify_responses,
        thresholds=thresholds,
        face_detector=face_detector,
        telemetry=telemetry,
        middleware=_check_middleware(middleware),
    )


def _check_middleware(middleware: object) -> tuple[Middleware, ...]:
    if not isinstance(middleware, list | tuple):
        msg = f"middleware must be a list of async functions, not {type_name(middleware)}: pass middleware=[function]."
        raise ConfigurationError(msg)
    functions = cast("Sequence[object]", middleware)
    for function in functions:
        # A class is callable too, but calling it makes an object and awaits nothing.
        if not callable(function) or isinstance(function, type):
            msg = f"middleware must hold async functions, not {type_name(function)}: pass middleware=[function]."
            raise ConfigurationError(msg)
    return tuple(cast("Sequence[Middleware]", functions))


# The options of a client that are the same for all its views.
_SHARED: Final = frozenset({"credentials", "base_url", *ClientOptions.__annotations__} - {*CallOptions.__annotations__})


def check_call_options(call: str, options: CallOptions) -> CallOptions:
    """Return the options of a view that are not ``None``.

    Raises:
        ConfigurationError: A value is invalid; the message names the option.
        TypeError: A name is unknown, or that of an option that all views of a client share.
    """
    # Only what is given is checked: a view for one call must cost little.
    for name, value in options.items():
        if name not in CallOptions.__annotations__:
            _check_call_option_name(call, name)
        if value is None:
            continue
        if name in _POLICIES:
            _check_policy(name, value, "to keep its value")
        elif name == "concurrency":
            check_number("concurrency", value, lowest=1, whole=True, remedy="give a whole number above zero")
        elif name == "middleware":
            _check_middleware(value)
        else:
            _check_inspection(options.get("thresholds"), options.get("face_detector"))
    return cast("CallOptions", {name: value for name, value in options.items() if value is not None})


def _check_call_option_name(call: str, name: str) -> None:
    if name in _SHARED:
        hint = ", or pass concurrency=... here" if name in {"max_uploads", "max_downloads"} else ""
        msg = f"{call} cannot change {name}, which all views of a client share: pass it to VeriffClient(...){hint}."
        raise TypeError(msg)
    check_names(call, [name], CallOptions.__annotations__)


def add_options(options: CallOptions, further: CallOptions) -> CallOptions:
    """Return the options of a view of a view: the later value of a name counts, and middleware adds up."""
    middleware = (*(options.get("middleware") or ()), *(further.get("middleware") or ()))
    return options | further | ({"middleware": middleware} if middleware else {})


def _check_inspection(thresholds: object, face_detector: object) -> None:
    if thresholds is not None or face_detector is not None:
        # Imported here: few clients inspect pictures, and an import takes time.
        from veriff_async._protocol.picture_thresholds import check_inspection_options

        check_inspection_options(thresholds, face_detector, error=ConfigurationError)


_POLICIES: Final[dict[str, type]] = {"retry": RetryPolicy, "poll": PollPolicy, "timeouts": Timeouts}


def _check_policy(name: str, value: object, default: str) -> None:
    """Refuse a value that would otherwise fail only at its first use."""
    kind = _POLICIES[name]
    if not isinstance(value, kind):
        check_optional(name, value, kind, remedy=f"pass {kind.__name__}(...), or None {default}")


def _check_inbox(inbox: object) -> None:
    methods = (callable(getattr(inbox, name, None)) for name in ("record", "get_states", "subscribe"))
    # A class has the methods too, but is not an inbox.
    if inbox is not None and (isinstance(inbox, type) or not all(methods)):
        msg = f"inbox must be an Inbox, not {type_name(inbox)}: pass for example MemoryInbox(), or leave it out."
        raise ConfigurationError(msg)


def optional_variables(environ: Mapping[str, str]) -> ClientOptions:
    """Return the options that environment variables set."""
    options: ClientOptions = {}
    if feedback_url := environ.get(FEEDBACK_URL_VARIABLE, "").strip():
        options["feedback_url"] = feedback_url
    if sync_url := environ.get(SYNC_URL_VARIABLE, "").strip():
        options["sync_url"] = sync_url
    if allowed := insecure_hosts_from(environ):
        options["allow_insecure_hosts"] = allowed
    if ca_bundle := ca_bundle_from(environ):
        options["ca_bundle"] = ca_bundle
    return options


def warn_about_hosts(hosts: Mapping[Host, str]) -> None:
    """Warn once for each client, at the caller of `VeriffClient`."""
    if (old := deprecation(hosts["api"])) is not None:
        warnings.warn(old, DeprecatedHostWarning, stacklevel=4)
    # Logged rather than warned: the option permits it, and test suites often turn warnings into errors.
    for host in sorted({host for root in hosts.values() if (host := insecure_host(root)) is not None}):
        fields = log_fields(host=host)
        _LOG.warning("Requests to %s are not encrypted: allow_insecure_hosts permits plain http.", host, extra=fields)


def split_options(own: tuple[str, ...], options: SessionOptions) -> tuple[ClientOptions, CreateOptions]:
    """Return the options of the client and those of the session that ``open_session`` was given, besides its `own`.

    Raises:
        TypeError: A name is unknown.
    """
    # Before the split, which would pass an unknown name on to `create_session`.
    check_names("open_session()", options, (*own, *ClientOptions.__annotations__, *CREATE_OPTIONS))
    for_client = {name: value for name, value in options.items() if name in ClientOptions.__annotations__}
    for_session = {name: value for name, value in options.items() if name not in for_client}
    return cast("ClientOptions", for_client), cast("CreateOptions", for_session)
