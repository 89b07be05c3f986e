"""The keys with which the stores of a command are encrypted, from the environment only."""

from __future__ import annotations

import os
from typing import Final

from veriff_async.encryption import KeyRing

__all__ = ("STORE_KEYS_VARIABLE", "read_store_keys")

STORE_KEYS_VARIABLE: Final = "VERIFF_STORE_KEYS"


def read_store_keys() -> KeyRing | None:
    """Return the ring of `KeyRing.from_env`, or `None` if the variable is not set: then stores are not encrypted.

    Raises:
        ConfigurationError: A key has another form, or the extra ``encryption`` is not installed.
    """
    return KeyRing.from_env(name=STORE_KEYS_VARIABLE) if os.environ.get(STORE_KEYS_VARIABLE, "").strip() else None
