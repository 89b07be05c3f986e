"""Traces and metrics with the API of OpenTelemetry, which is imported when a client or a receiver is created."""
