"""Where verified events are kept and sleeping coroutines are woken: floor 2, beside the transport.

Nothing lives here yet: decisions are learnt by polling, and `veriff_async.waiting` takes them from any source.
"""
