"""The page behind ``session.url``: what an end-user sees, and, unlike Veriff's page, a choice of the outcome."""

from veriff_async.sandbox._hosted.handlers import HostedPage

__all__ = ("HostedPage",)
