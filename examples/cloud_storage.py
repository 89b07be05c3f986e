"""Stream pictures from Amazon S3 or Google Cloud Storage to Veriff.

Install: pip install "veriff-async[heic]" aiobotocore        for S3
         pip install "veriff-async[heic]" gcloud-aio-storage  for Google Cloud Storage
Run it:  python cloud_storage.py s3 BUCKET document-front=ada/front.jpg face=ada/selfie.heic
         python cloud_storage.py gs BUCKET document-front=ada/front.jpg face=ada/selfie.heic
Pictures are scaled down, so HEIC needs the extra [heic]; [images] is enough without it.
Settings: the variables of Credentials.from_env(), and those of the storage's own client.

An object is read once, as it arrives: up to 256 KiB in memory, and more in a temporary file without a name. The body of
a response must stay open until the upload has read it, so the calls below close it afterwards.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from veriff_async import Media, VeriffClient

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient
    from gcloud.aio.storage import Storage


async def submit_from_s3(veriff: VeriffClient, s3: AioBaseClient, bucket: str, keys: Mapping[str, str]) -> str:
    """Submit one person's pictures, given as keys by context, and return the id of the session."""
    async with AsyncExitStack() as bodies:
        media = []
        for context, key in keys.items():
            response = await s3.get_object(Bucket=bucket, Key=key)
            body = await bodies.enter_async_context(response["Body"])
            media.append(Media(body, context, max_side=1920))
        session = await veriff.submit(media=media)
        return session.id


async def submit_from_google(veriff: VeriffClient, storage: Storage, bucket: str, keys: Mapping[str, str]) -> str:
    """Submit one person's pictures, given as names by context, and return the id of the session."""
    async with AsyncExitStack() as bodies:
        media = []
        for context, key in keys.items():
            stream = await storage.download_stream(bucket, key)
            await bodies.enter_async_context(stream)  # it returns the response, which is not the stream
            media.append(Media(stream, context, max_side=1920))
        session = await veriff.submit(media=media)
        return session.id


async def main(kind: str, bucket: str, keys: Mapping[str, str]) -> None:
    """Submit the pictures of one person from one bucket."""
    async with VeriffClient.from_env() as veriff:
        if kind == "s3":
            from aiobotocore.session import get_session  # noqa: PLC0415  one of the two is installed

            async with get_session().create_client("s3") as s3:
                print(await submit_from_s3(veriff, s3, bucket, keys))
        else:
            from gcloud.aio.storage import Storage  # noqa: PLC0415

            async with Storage() as storage:
                print(await submit_from_google(veriff, storage, bucket, keys))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], dict(argument.split("=", 1) for argument in sys.argv[3:])))
