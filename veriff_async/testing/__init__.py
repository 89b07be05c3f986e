"""For the tests of your own code: hypothesis strategies for all that Veriff says.

It needs hypothesis: ``pip install "veriff-async[testing]"``.
"""

from veriff_async.testing.strategies import signed_webhooks, strategy_for, webhook_events

__all__ = ("signed_webhooks", "strategy_for", "webhook_events")
