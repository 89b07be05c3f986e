"""Chaos profiles: which requests fail, how slow responses are, and which webhooks get lost. Pure, except for `load`."""
