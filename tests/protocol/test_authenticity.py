"""Origins: which secret signed a message, and for which integration."""

from __future__ import annotations

import pytest

from veriff_async import Credentials, SignatureError, verify_webhook
from veriff_async.webhooks import WebhookVerification

RING = Credentials("key", "newest", previous_secrets=["older", "oldest"], integration_id="ours")
BODY = b'{"id":"1"}'


@pytest.mark.parametrize("index", range(3))
def test_secret_index_of_the_signing_secret(index: int) -> None:
    """The result has the index of the secret, which shows when an older secret is no longer in use."""
    headers = {"x-auth-client": "KEY", "x-hmac-signature": RING.with_signing_secret(index).sign(BODY)}

    assert WebhookVerification(index) == verify_webhook(headers, BODY, RING)


def test_integration_is_compared() -> None:
    """A message for another integration of the same key is refused; one that names none passes."""
    headers = {"x-auth-client": "key", "x-hmac-signature": RING.sign(BODY)}

    assert WebhookVerification(0, "OURS") == verify_webhook({**headers, "Vrf-Integration-Id": "OURS"}, BODY, RING)
    with pytest.raises(SignatureError) as caught:
        verify_webhook({**headers, "vrf-integration-id": "theirs"}, BODY, RING)
    assert caught.value.reason == "foreign_integration"
    without_integration = Credentials("key", "newest")
    assert WebhookVerification(0, "theirs") == verify_webhook(
        {**headers, "vrf-integration-id": "theirs"}, BODY, without_integration
    )
