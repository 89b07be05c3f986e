"""Secrets are rotated while a client runs."""

from __future__ import annotations

from typing import cast

import anyio
import pytest

from veriff_async import AuthenticationError, ConfigurationError, Credentials, Media, VeriffClient
from veriff_async.sandbox import Fault, Sandbox

pytestmark = pytest.mark.anyio

KEY = "8f0d1ab6-0000-4000-8000-000000000001"
THREE_SECRETS = Credentials(KEY, "newest", previous_secrets=["older", "oldest"])
PICTURE = Media(b"\xff\xd8\xff\xe0" + bytes(60), "face")


async def test_rotated_secret_signs_the_next_request(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """After the swap requests are signed with the new secret, over the same connections; the old one can go."""
    session = await veriff.create_session()
    both = sandbox.credentials.with_rotated_secret("a-new-secret")
    sandbox.credentials = both

    veriff.credentials = veriff.credentials.with_rotated_secret("a-new-secret")
    await session.upload(PICTURE)
    sandbox.credentials = both.without_secret(1)
    await session.submit()

    assert both == veriff.credentials
    assert await session.decision() is None


async def test_deleted_secret_is_rejected(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A client that signs with a deleted secret gets an error, and works again after the rotation."""
    session = await veriff.create_session()
    sandbox.credentials = sandbox.credentials.with_rotated_secret("a-new-secret").without_secret(1)

    with pytest.raises(AuthenticationError, match="compare VERIFF_SHARED_SECRET"):
        await session.submit()
    veriff.credentials = veriff.credentials.with_rotated_secret("a-new-secret")
    await session.submit()


async def test_call_in_progress_keeps_its_secret(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The answer to a request that was signed before the swap is checked with what signed it."""
    session = await veriff.create_session()
    sandbox.inject(Fault.status(503, retry_after=0), path="*/attempts")
    sandbox.credentials = sandbox.credentials.with_rotated_secret("a-new-secret")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.attempts)
        await anyio.lowlevel.checkpoint()
        veriff.credentials = veriff.credentials.with_rotated_secret("a-new-secret").without_secret(1)

    assert await session.decision() is None


@pytest.mark.parametrize("index", range(3))
async def test_any_secret_can_sign(index: int) -> None:
    """The chosen secret signs, and the response is signed with the same one."""
    async with (
        Sandbox(credentials=THREE_SECRETS) as sandbox,
        VeriffClient(THREE_SECRETS.with_signing_secret(index), base_url=sandbox.base_url) as veriff,
    ):
        session = await veriff.create_session()
        assert await session.decision() is None


def test_changes_return_new_credentials() -> None:
    """A new secret goes first, a chosen one too, a deleted one is left out, and six are too many."""
    assert THREE_SECRETS.with_rotated_secret("next").secrets == ("next", "newest", "older", "oldest")
    assert THREE_SECRETS.with_rotated_secret("older").secrets == ("older", "newest", "oldest")
    assert THREE_SECRETS.with_signing_secret(2).secrets == ("oldest", "newest", "older")
    assert THREE_SECRETS.without_secret(0).secrets == ("older", "oldest")
    assert THREE_SECRETS.secrets == ("newest", "older", "oldest")
    with pytest.raises(ConfigurationError, match="more than 5"):
        THREE_SECRETS.with_rotated_secret("4").with_rotated_secret("5").with_rotated_secret("6")
    with pytest.raises(ConfigurationError, match="index 3"):
        THREE_SECRETS.with_signing_secret(3)
    with pytest.raises(ConfigurationError, match="only secret"):
        Credentials(KEY, "only").without_secret(0)


async def test_other_types_are_rejected_as_credentials(veriff: VeriffClient) -> None:
    """Anything but Credentials is refused when it is set, not when the next request is signed."""
    with pytest.raises(ConfigurationError, match="credentials must be a Credentials instance"):
        veriff.credentials = cast("Credentials", "a-new-secret")
