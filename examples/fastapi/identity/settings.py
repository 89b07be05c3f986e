"""The configuration of the application, from environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

# The key signs cookies, so it must be longer than a guess.
_SHORTEST_KEY = 32


@dataclass(frozen=True)
class Settings:
    """The settings of the application itself; `VeriffClient.from_env` reads the variables of the library.

    Attributes:
        secret_key: Signs the cookies. All workers, and the server after a restart, must have the same one.
        inbox: The file for webhooks, on a disk of this machine; all workers share it.
        database: The file for the verification of each browser, likewise.
        is_secure: Whether browsers reach the application by HTTPS.
    """

    secret_key: str = field(repr=False)
    inbox: str = "inbox.db"
    database: str = "identity.db"
    is_secure: bool = True

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read SECRET_KEY, INBOX, DATABASE and PUBLIC_URL.

        Raises:
            ValueError: SECRET_KEY is missing or too short.
        """
        secret_key = environ.get("SECRET_KEY", "")
        if len(secret_key) < _SHORTEST_KEY:
            msg = f"SECRET_KEY needs {_SHORTEST_KEY} characters or more, for example those of secrets.token_hex()."
            raise ValueError(msg)
        public_url = environ.get("PUBLIC_URL", "https://")
        return cls(
            secret_key,
            inbox=environ.get("INBOX", cls.inbox),
            database=environ.get("DATABASE", cls.database),
            is_secure=public_url.startswith("https:"),
        )
