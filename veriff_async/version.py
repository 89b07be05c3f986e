"""The version, in one place: the build reads it from here, and requests state it as their user agent."""

__version__ = "0.1.0"
