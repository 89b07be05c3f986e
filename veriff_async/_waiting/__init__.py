"""Coroutines that wait for a decision."""
