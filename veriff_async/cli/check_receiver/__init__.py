"""The check-receiver command."""
