"""How the rules are tried: by what they say, not by how long a busy machine takes to hear it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("rules", deadline=None, max_examples=50)
settings.load_profile("rules")
