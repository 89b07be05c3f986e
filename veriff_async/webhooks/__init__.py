"""Webhooks received over HTTP: one receiver, and an adapter for each kind of server.

`WebhookReceiver` has all the rules, and `IntegrationReceiver` combines several of them; `aiohttp_handler`,
`aiohttp_app` and `asgi_app` pass requests to either. The documentation has recipes for other frameworks.
"""

from typing import TYPE_CHECKING

from veriff_async._lazy import attach

if TYPE_CHECKING:
    from veriff_async._protocol.authenticity import WebhookVerification as WebhookVerification
    from veriff_async._protocol.signature_diagnosis import (
        SignatureCause as SignatureCause,
        SignatureExplanation as SignatureExplanation,
    )
    from veriff_async.statistics import ReceiverStatistics as ReceiverStatistics
    from veriff_async.webhooks._handlers import UnrecoverableError as UnrecoverableError
    from veriff_async.webhooks._http import Receiver as Receiver, WebhookResponse as WebhookResponse
    from veriff_async.webhooks._options import ReceiverOptions as ReceiverOptions
    from veriff_async.webhooks.aiohttp import aiohttp_app as aiohttp_app, aiohttp_handler as aiohttp_handler
    from veriff_async.webhooks.asgi import AsgiWebhooks as AsgiWebhooks, asgi_app as asgi_app
    from veriff_async.webhooks.integrations import (
        IntegrationReceiver as IntegrationReceiver,
        IntegrationStatistics as IntegrationStatistics,
    )
    from veriff_async.webhooks.receiver import WebhookReceiver as WebhookReceiver
else:
    __getattr__, __dir__, __all__ = attach(
        __name__,
        {
            "_protocol.authenticity": "WebhookVerification",
            "_protocol.signature_diagnosis": "SignatureCause SignatureExplanation",
            "statistics": "ReceiverStatistics",
            "webhooks._handlers": "UnrecoverableError",
            "webhooks._http": "Receiver WebhookResponse",
            "webhooks._options": "ReceiverOptions",
            "webhooks.aiohttp": "aiohttp_app aiohttp_handler",
            "webhooks.asgi": "AsgiWebhooks asgi_app",
            "webhooks.integrations": "IntegrationReceiver IntegrationStatistics",
            "webhooks.receiver": "WebhookReceiver",
        },
    )
