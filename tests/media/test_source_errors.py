"""Errors of sources: the class and the remedy follow from what the operating system said, and no text is passed on."""

from __future__ import annotations

import errno

import pytest

from veriff_async._media.source import source_failed
from veriff_async.errors import MediaSourceError


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_named_wherever_they_arise(number: int) -> None:
    """An object of the caller that runs out of descriptors gets the remedy for that, not the one for a source."""
    assert "ulimit -n" in str(source_failed(OSError(number, "secret")))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "secret"), OSError("secret"), ValueError("secret")])
def test_text_of_a_source_is_not_passed_on(error: Exception) -> None:
    """The error names the class and the system's own words for the number, and nothing that the source said."""
    failed = source_failed(error)

    assert isinstance(failed, MediaSourceError)
    assert type(error).__name__ in str(failed)
    assert "secret" not in str(failed)
