"""The same verification with veriff-async.

Run it:   python with_veriff_async.py front.jpg selfie.jpg
Settings: VERIFF_API_KEY, VERIFF_SHARED_SECRET, VERIFF_BASE_URL.
"""

from __future__ import annotations

import asyncio
import sys

from veriff_async import DecisionTimeoutError, Media, VeriffClient


async def main(front: str, selfie: str) -> None:
    """Verify one person."""
    async with VeriffClient.from_env() as veriff:
        session = await veriff.create_session(vendor_data="user-42")
        await session.upload(
            Media(front, "document-front"),
            Media(selfie, "face"),
        )
        await session.submit()
        try:
            decision = await session.wait_for_decision(timeout=900)
        except DecisionTimeoutError:
            print("no decision yet")
        else:
            print(decision.status)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
