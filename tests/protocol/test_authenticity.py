"""Origins: which secret signed a message, and for which integration."""

from __future__ import annotations

import pytest

from veriff_async import Credentials, SignatureError, verify_webhook
from veriff_async.webhooks import WebhookVerification

RING = Credentials("key", "newest", previous_secrets=["older", "oldest"], integration_id="ours")
BODY = b'{"id":"1"}'


@pytest.mark.parametrize("place", range(3))
def test_secret_index_of_the_signing_secret(place: int) -> None:
    """The place of the secret is told, so that one sees when an older one is not used any more."""
    headers = {"x-auth-client": "KEY", "x-hmac-signature": RING.with_signing_secret(place).sign(BODY)}

    assert WebhookVerification(place) == verify_webhook(headers, BODY, RING)


def test_integration_is_compared() -> None:
    """A message for another integration of the same key is refused; one that names none passes."""
    headers = {"x-auth-client": "key", "x-hmac-signature": RING.sign(BODY)}

    assert WebhookVerification(0, "OURS") == verify_webhook({**headers, "Vrf-Integration-Id": "OURS"}, BODY, RING)
    with pytest.raises(SignatureError) as caught:
        verify_webhook({**headers, "vrf-integration-id": "theirs"}, BODY, RING)
    assert caught.value.reason == "foreign_integration"
    anybody = Credentials("key", "newest")
    assert WebhookVerification(0, "theirs") == verify_webhook(
        {**headers, "vrf-integration-id": "theirs"}, BODY, anybody
    )
