"""Rules for one media: type, size, context, time, each with an error that names the remedy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from veriff_async import (
    InvalidArgumentError,
    Media,
    MediaContext,
    MediaTooLargeError,
    MediaUnsupportedError,
)
from veriff_async._protocol.image_header import PDF
from veriff_async._protocol.media_rules import check_size, check_stated, context_of, reference_to, size_limit


@pytest.mark.parametrize(
    "mimetype",
    [
        None,
        "",
        "  ",
        "application/octet-stream",
        "Application/Octet-Stream; charset=binary",
        "binary/octet-stream",
        "*/*",
    ],
)
def test_unspecific_types_are_ignored(mimetype: str | None) -> None:
    """A type that browsers and storages state for any file contradicts nothing."""
    check_stated(Media(b"", "face", mimetype=mimetype), "image/jpeg")
    check_stated(Media(b"", "face", mimetype=mimetype), PDF)


@pytest.mark.parametrize(
    ("stated", "mimetype"),
    [
        ("image/pjpeg", "image/jpeg"),
        ("image/x-png", "image/png"),
        ("application/x-pdf", PDF),
        ("IMAGE/HEIC", "image/heif"),
    ],
)
def test_aliases_of_a_type_are_accepted(stated: str, mimetype: str) -> None:
    """Old and confused names of a type are the type."""
    check_stated(Media(b"", "face", mimetype=stated), mimetype)


@pytest.mark.parametrize("stated", ["image/png", "text/plain", "jpeg"])
def test_contradicting_type_is_rejected(stated: str) -> None:
    """A type that says something else than the bytes is refused."""
    with pytest.raises(MediaUnsupportedError, match="not the stated type"):
        check_stated(Media(b"", "face", mimetype=stated), "image/jpeg")


@pytest.mark.parametrize("stated", [5, b"image/jpeg", ("image/jpeg", None)])
def test_type_that_is_not_a_text_is_rejected(stated: object) -> None:
    """A pair, as `mimetypes.guess_type` returns it, is not a type."""
    with pytest.raises(InvalidArgumentError, match=type(stated).__name__):
        check_stated(Media(b"", "face", mimetype=cast("Any", stated)), "image/jpeg")


def test_naive_timestamp_is_rejected() -> None:
    """A time without a zone, and a text, are refused."""
    check_stated(Media(b"", "face", timestamp=datetime(2026, 1, 1, tzinfo=UTC)), PDF)
    for wrong in (datetime(2026, 1, 1), "2026-01-01"):  # noqa: DTZ001  what is refused
        with pytest.raises(InvalidArgumentError, match="time zone"):
            check_stated(Media(b"", "face", timestamp=cast("Any", wrong)), PDF)


@pytest.mark.parametrize(("mimetype", "scaled"), [(PDF, False), (PDF, True), ("image/png", False), ("image/png", True)])
def test_every_type_has_a_limit_that_its_error_names(mimetype: str, *, scaled: bool) -> None:
    """A size at the limit is allowed, and one above it is refused with that limit."""
    limit = size_limit(mimetype, converted=scaled)
    check_size(mimetype, limit, converted=scaled)
    with pytest.raises(MediaTooLargeError, match=str(limit + (mimetype == PDF))):
        check_size(mimetype, limit + 1, converted=scaled)


@pytest.mark.parametrize("context", ["selfie", "", None, 5])
def test_unknown_context_is_rejected_and_not_shown(context: object) -> None:
    """A context that is not one of Veriff's may hold anything, so no error repeats it."""
    media = Media(b"", cast("Any", context))
    with pytest.raises(InvalidArgumentError, match="MediaContext"):
        context_of(media)
    assert "media[3]" == str(reference_to(3, media))


def test_media_reference_has_index_and_context() -> None:
    """A media is identified by its index and its context."""
    reference = reference_to(1, Media(b"", "face"))

    assert (1, MediaContext.FACE) == (reference.index, reference.context)
    assert "media[1] (face)" == str(reference)
