"""Webhooks in AWS Lambda, behind API Gateway (REST or HTTP API) or an Application Load Balancer, through Mangum.

Handler:  lambda_app.handler
Settings: the variables of Credentials.from_env(), and VERIFF_REDIS, a Redis that the processes which wait share.

Mangum starts and stops the application in each invocation (lifespan="on"), so `on_event` has run before Lambda freezes
the process. With lifespan="off" webhooks are recorded all the same, and `on_event` runs with the next invocation.
"""

from __future__ import annotations

import os

from mangum import Mangum

from veriff_async import Credentials
from veriff_async.inbox import RecordResult, RedisInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app


async def print_event(recorded: RecordResult) -> None:
    """Do what may be missed, after the record: a mail, a metric."""
    print(f"recorded a webhook of kind {recorded.event.kind}", flush=True)


# Opened when first used, and kept from one invocation to the next.
inbox = RedisInbox(os.environ["VERIFF_REDIS"])
receiver = WebhookReceiver(Credentials.from_env(), inbox, on_event=print_event)
# Without a path it takes every request, with any stage prefix of the gateway. Mangum decodes bodies in base64.
handler = Mangum(asgi_app(receiver), lifespan="on")
