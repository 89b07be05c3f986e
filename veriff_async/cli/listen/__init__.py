"""The listen command."""
