"""Erasure of persons: at Veriff within its quota, in inboxes, journals and files, with a receipt.

`forget` starts an erasure, `resume_erasures` continues those that wait for Veriff's quota, and `plan_retention` lists
what is due. An `ErasureQueue` keeps both the progress and the receipts.
"""

from typing import TYPE_CHECKING

from veriff_async._lazy import attach

if TYPE_CHECKING:
    from veriff_async.erasure._receipt import ErasureReceipt as ErasureReceipt, VeriffErasure as VeriffErasure
    from veriff_async.erasure._stores import ErasableStore as ErasableStore
    from veriff_async.erasure.files import ResultsFile as ResultsFile, SessionFiles as SessionFiles
    from veriff_async.erasure.forget import forget as forget, resume_erasures as resume_erasures
    from veriff_async.erasure.queue import ErasureQueue as ErasureQueue
    from veriff_async.erasure.retention import RetentionItem as RetentionItem, plan_retention as plan_retention
else:
    __getattr__, __dir__, __all__ = attach(
        __name__,
        {
            "erasure._receipt": "ErasureReceipt VeriffErasure",
            "erasure._stores": "ErasableStore",
            "erasure.files": "ResultsFile SessionFiles",
            "erasure.forget": "forget resume_erasures",
            "erasure.queue": "ErasureQueue",
            "erasure.retention": "RetentionItem plan_retention",
        },
    )
