"""Veriff for asyncio."""
