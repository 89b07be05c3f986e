"""Errors of sources: class and remedy follow from the error number, and no text of the source is included."""

from __future__ import annotations

import errno

import pytest

from veriff_async._media.source import source_failed
from veriff_async.errors import MediaSourceError


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_of_a_source_name_the_limit(number: int) -> None:
    """An object of the caller that has no free descriptor gets the remedy for that, not the one for a source."""
    assert "ulimit -n" in str(source_failed(OSError(number, "secret")))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "secret"), OSError("secret"), ValueError("secret")])
def test_text_of_a_source_is_not_in_the_error(error: Exception) -> None:
    """The error has the class and the system's text for the number, and no text of the source."""
    failed = source_failed(error)

    assert isinstance(failed, MediaSourceError)
    assert type(error).__name__ in str(failed)
    assert "secret" not in str(failed)
