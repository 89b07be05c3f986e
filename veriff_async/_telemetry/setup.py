"""Decides whether a client or a receiver exports traces and metrics; imports OpenTelemetry only then."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeVar

from veriff_async._logging import log_fields
from veriff_async._protocol.arguments import describe_value
from veriff_async.errors import ConfigurationError
from veriff_async.telemetry import Telemetry

if TYPE_CHECKING:
    from veriff_async._telemetry.instrumentation import Instrumentation

__all__ = ("check_telemetry", "if_live", "open_instrumentation")

_PROVIDERS: Final = {"tracer_provider": "get_tracer", "meter_provider": "get_meter"}
_LOG: Final = logging.getLogger("veriff_async.telemetry")


class _Exporter(Protocol):
    @property
    def is_live(self) -> bool:
        """Whether spans or metrics go anywhere."""
        ...


_ExporterT = TypeVar("_ExporterT", bound=_Exporter)


def check_telemetry(telemetry: object) -> None:
    """Check the option `telemetry`.

    Raises:
        ConfigurationError: It is neither ``None``, ``False`` nor a `Telemetry`, or a provider of it is none.
    """
    if telemetry is not None and telemetry is not False and not isinstance(telemetry, Telemetry):
        msg = (
            f"telemetry must be a Telemetry, False or None, not {describe_value(telemetry)}: pass Telemetry(...), or "
            "None for the global providers."
        )
        raise ConfigurationError(msg)
    for option, method in _PROVIDERS.items() if isinstance(telemetry, Telemetry) else ():
        provider: object = getattr(telemetry, option)
        if provider is not None and not callable(getattr(provider, method, None)):
            msg = (
                f"{option} must be a provider with {method}, not {describe_value(provider)}: pass the one of your SDK."
            )
            raise ConfigurationError(msg)


def open_instrumentation(telemetry: Telemetry | Literal[False] | None) -> Instrumentation | None:
    """Return the instrumentation of a client or a receiver, or ``None`` for none.

    Raises:
        ConfigurationError: A `Telemetry` was passed, and the API of OpenTelemetry is missing or too old, or a provider
            fails.
    """
    if telemetry is False:
        return None
    try:
        # Imported here: it takes as long as a tenth of aiohttp, and few programs have it.
        from veriff_async._telemetry.instrumentation import Instrumentation

        return Instrumentation(telemetry)
    except ModuleNotFoundError:
        problem = "is missing"
    except Exception as error:  # noqa: BLE001  of a foreign version, or of a plug-in that its variables name
        problem = f"cannot be used ({type(error).__name__})"
        _LOG.warning("OpenTelemetry %s, so nothing is exported.", problem, extra=log_fields(cause=problem))
    if telemetry is None:
        return None
    msg = f"OpenTelemetry {problem}: pip install 'veriff-async[otel]', check the providers, or leave out telemetry."
    raise ConfigurationError(msg)


def if_live(exporter: _ExporterT | None) -> _ExporterT | None:
    """Return an exporter, or ``None`` if there is none or no SDK is configured."""
    return exporter if exporter is not None and exporter.is_live else None
