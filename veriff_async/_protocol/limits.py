"""Sizes and lengths that Veriff documents, in one place for the client and the sandbox."""

from __future__ import annotations

import errno
from typing import Final

# https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3: images "under 24 MB" as base64, PDF under 20 MB. Whether a MB
# is a million bytes there is not said; the smaller reading is the safe one.
MAX_IMAGE_BASE64: Final = 24_000_000
MAX_PDF_BYTES: Final = 20_000_000

# The same page advises at most so many pixels for the longer side; larger pictures are scaled down.
MAX_SIDE: Final = 1920

# Veriff documents no limit of a download: this one protects the disk from a response that never ends.
MAX_DOWNLOAD_BYTES: Final = 1024**3

# https://devdocs.veriff.com/apidocs/v1sessions
MAX_VENDOR_DATA: Final = 1000

# https://devdocs.veriff.com/apidocs/v1sessionsidcollected-data-1
MAX_COLLECTED_TEXT: Final = 255

# https://devdocs.veriff.com/apidocs/bulk-import-face-images
MAX_IMPORTED_FACES: Final = 10

# https://devdocs.veriff.com/apidocs/report-fraud, https://devdocs.veriff.com/apidocs/retrieve-fraud-reports
MAX_FRAUD_COMMENT: Final = 500
MAX_FRAUD_SESSIONS: Final = 10

# Error numbers of a process, or a whole system, that has no file descriptor left for another file or connection.
TOO_MANY_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, getattr(errno, "WSAEMFILE", errno.EMFILE)})
