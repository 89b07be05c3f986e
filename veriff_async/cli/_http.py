"""HTTP in commands: the option for a URL, and single requests for diagnosis."""

from __future__ import annotations

from urllib.parse import urlsplit

import click

from veriff_async._http.probe import HttpProbe, ProbeResult, certificate_problem, describe_error

__all__ = ("HttpProbe", "ProbeResult", "certificate_problem", "check_url", "describe_error")


def check_url(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Check an option that is a URL. Passwords are refused: every user of the machine can read arguments."""
    if value is None:
        return None
    try:
        # `urlsplit` raises ValueError for unmatched brackets, and `port` for a number above 65535.
        parts = urlsplit(value)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and value.isprintable()
    except ValueError:
        is_good, parts = False, urlsplit("")
    if not is_good:
        msg = "this is not a URL: give http://... or https://..."
        raise click.BadParameter(msg)
    if parts.username is not None or parts.password is not None:
        msg = "it contains a name or password, which every user of the machine can read in arguments: leave it out."
        raise click.BadParameter(msg)
    return value
