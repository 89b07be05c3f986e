"""Manifests: each row becomes a job or an InvalidRow with its reason."""

from __future__ import annotations

import json
import sys
from collections import deque
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from veriff_async import (
    Address,
    ConfigurationError,
    Consent,
    Document,
    DocumentType,
    InvalidArgumentError,
    Media,
    Person,
)
from veriff_async.batch import InvalidRow, Job, ManifestRow, read_manifest
from veriff_async.batch._manifest_rows import _MEMBERS, RowError, job_from_members
from veriff_async.batch._seen_ids import SeenIds
from veriff_async.batch.manifest import _MAX_LINE, media_problem
from veriff_async.models import Gender, ParsedAddress

PICTURE = b"\xff\xd8\xff\xe0" + bytes(64)
SECRET = "Zuckerkandl"
# The C locale without UTF-8 mode has names in ASCII only; `tests/test_portability.py` tries others there.
FACE = "face é.jpg" if sys.getfilesystemencoding() == "utf-8" else "face e.jpg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create a folder with two pictures and some other files."""
    (tmp_path / "front.jpg").write_bytes(PICTURE)
    (tmp_path / FACE).write_bytes(PICTURE)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_bytes(b"no picture")
    return tmp_path


def read(
    folder: Path, text: str | bytes, *, name: str = "jobs.csv", check_media: bool = True
) -> list[ManifestRow | InvalidRow]:
    """Read a manifest with this text."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_manifest(path, check_media=check_media))


def reasons(rows: list[ManifestRow | InvalidRow]) -> dict[int, str]:
    """Return the reasons of the invalid rows by line."""
    return {row.line: row.reason for row in rows if isinstance(row, InvalidRow)}


def jobs(rows: list[ManifestRow | InvalidRow]) -> list[Job]:
    """Return the jobs of the valid rows."""
    return [row.job for row in rows if isinstance(row, ManifestRow)]


def test_csv_row_becomes_a_complete_job(folder: Path) -> None:
    """Columns are contexts, model fields and options; a byte order mark, spaces and empty lines are ignored."""
    text = (
        "\ufeffid, document-front,face,first_name,gender,document_type,document_number,full_address,vendor_data,"
        "end_user_id,callback,timeout,max_side,proof_of_address_types,max_bytes,convert\r\n"
        f'u1,front.jpg; {FACE}, front.jpg ,"Ada, Countess",F,PASSPORT,AB12,"12 Square\nLondon",v,'
        "c4f3d0ac-65b1-4a0f-8a4e-3f4de0a1b9aa,https://example.com/back,2.5,1920,UTILITY_BILL;TAX_STATEMENT,4000000,jpeg\r\n"
        "\r\n,,,,,,,,,,,,,,,\r\n"
        "u2,front.jpg,,,,,,,,,,,,,,\r\n"
    )
    first, second = read(folder, text)

    assert isinstance(first, ManifestRow)
    assert (2, "u1", 2.5) == (first.line, first.job.id, first.job.timeout)
    assert ["document-front", "document-front", "face"] == [media.context for media in first.job.media]
    assert [(1920, 4_000_000, "jpeg")] * 3 == [
        (media.max_side, media.max_bytes, media.convert) for media in first.job.media
    ]
    assert first.job.options == {
        "person": Person(first_name="Ada, Countess", gender=Gender.FEMALE),
        "document": Document(type=DocumentType.PASSPORT, number="AB12"),
        "address": Address(full_address="12 Square\nLondon"),
        "vendor_data": "v",
        "end_user_id": "c4f3d0ac-65b1-4a0f-8a4e-3f4de0a1b9aa",
        "callback": "https://example.com/back",
        "proof_of_address_types": ["UTILITY_BILL", "TAX_STATEMENT"],
    }
    assert second == ManifestRow(6, Job("u2", second.job.media)) if isinstance(second, ManifestRow) else False


def test_json_line_becomes_a_complete_job(folder: Path) -> None:
    """Members have the names of the arguments of create_session; null counts as absent."""
    line = {
        "id": "u1",
        "media": [
            {"path": "front.jpg", "context": "document-front", "timestamp": "2024-05-31T12:00:00Z", "max_side": 800},
            {"path": str(folder / FACE), "context": "face", "mimetype": "image/jpeg", "max_bytes": 5},
        ],
        "person": {"first_name": "Ada", "last_name": None},
        "address": {"parsed_address": {"city": "London"}},
        "consents": [{"type": "ine", "approved": True}],
        "extra": {"features": ["selfid"]},
        "timeout": 10,
        "max_side": 1920,
        "max_bytes": 6,
        "document": None,
    }
    [row] = read(folder, json.dumps(line) + "\n\n", name="jobs.JSONL")

    assert isinstance(row, ManifestRow)
    assert [(800, 6), (1920, 5)] == [(media.max_side, media.max_bytes) for media in row.job.media]
    assert datetime(2024, 5, 31, 12, tzinfo=UTC) == row.job.media[0].timestamp
    assert row.job.options == {
        "person": Person(first_name="Ada"),
        "address": Address(parsed_address=ParsedAddress(city="London")),
        "consents": [Consent("ine", approved=True)],
        "extra": {"features": ["selfid"]},
    }


def test_invalid_csv_rows_are_reported_with_line_and_column(folder: Path) -> None:
    """Each mistake has its own reason, which names the column and never shows the value."""
    rows = read(
        folder,
        b"id,document-front,face,last_name,date_of_birth,timeout,callback\n"
        b"a,front.jpg,,,1990-02-30,,\n"
        b",front.jpg,,,,,\n"
        b"b,,,,,,\n"
        b"c,missing.jpg,,,,,\n"
        b"d,empty.jpg,,,,,\n"
        b"e,front.jpg,text.jpg,,,,\n"
        b"f,front.jpg,,,,soon,\n"
        b"g,front.jpg,,,,-1,\n"
        b"h,front.jpg,,,,,http://example.com\n"
        b"i,front.jpg,,,,,,one too many\n"
        b"j,front.jpg,,\xff,,,\n"
        b'k,front.jpg,,"' + SECRET.encode() + b",,,\n"
        b'l,front.jpg,,"broken" quotes,,,\n'
        b"good,front.jpg,,,,,\n"
        b"good,front.jpg,,,,,\n"
        b"a,front.jpg,,,,,\n"
        b"m,.,,,,,\n",
    )
    found = reasons(rows)
    words = {
        2: "person.date_of_birth",
        3: "has no id",
        4: "has no media",
        5: "document-front: The media file does not exist",
        6: "document-front: The media is empty",
        7: "face: The media is text",
        8: "timeout must be a number",
        9: "timeout must be a number of seconds",
        10: "callback",
        11: "8 cells and the header 7",
        12: "not UTF-8",
        13: "not CSV",
        14: "not CSV",
        16: "on line 15 already",
        17: "on line 2 already",
        18: "is a directory",
    }

    assert words.keys() == found.keys()
    assert all(word in found[line] for line, word in words.items()), found
    assert ["good"] == [job.id for job in jobs(rows)]
    assert SECRET not in repr(rows)
    assert [None, "a"] == [row.job_id for row in rows if isinstance(row, InvalidRow) and row.line in {3, 17}]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is empty"),
        (f"id,face,{SECRET}\n1,front.jpg,\n", "Column 3 of the header is unknown"),
        ("id,face,firstname\n", "did you mean first_name?"),
        ("id,face,face\n", "face twice"),
        ("face\n", "has no id"),
        ("id,first_name\n", "has no media"),
        ("id;face;first_name\n", "by commas"),
        ("id,face\n".encode("utf-16"), "not UTF-8"),
        (b"x" * 1_100_000, "more than 1048576 bytes"),
    ],
)
def test_invalid_header_ends_the_reading(folder: Path, text: str | bytes, word: str) -> None:
    """Without a valid header no row is read; the reason does not show an unknown name."""
    [bad] = read(folder, text)

    assert isinstance(bad, InvalidRow)
    assert 1 == bad.line
    assert word in bad.reason
    assert SECRET not in bad.reason


def test_invalid_json_lines_are_reported_with_the_member(folder: Path) -> None:
    """Each mistake has its own reason, which names the member and never shows the value."""
    media = '"media": [{"path": "front.jpg", "context": "face"}]'
    lines = {
        '{"id": "a"': "not a JSON object",
        '["a"]': "not a JSON object",
        "{" + media + "}": "has no id",
        '{"id": 7, ' + media + "}": "id must be a text",
        '{"id": "b"}': "has no media",
        '{"id": "c", "media": [{"path": "front.jpg"}]}': "media 1 has no context",
        '{"id": "d", "media": [{"path": "front.jpg", "context": "fase"}]}': "did you mean face?",
        '{"id": "e", "media": ["front.jpg"]}': "media 1 must be an object",
        '{"id": "f", ' + media + f', "{SECRET}": 1}}': "Member 3 of the row is unknown",
        '{"id": "g", ' + media + ', "person": {"first_nam": "x"}}': "did you mean first_name?",
        '{"id": "h", ' + media + ', "person": {"first_name": 5}}': "person.first_name must be a text",
        '{"id": "i", ' + media + ', "timeout": 1e400}': "not a JSON object",
        '{"id": "j", ' + media + ', "timeout": ' + "9" * 400 + "}": "timeout must be a number of seconds",
        '{"id": "k", "media": [{"path": "front.jpg", "context": "face", "timestamp": "2024-05-31"}]}': "time zone",
        '{"id": "k2", "media": [{"path": "front.jpg", "context": "face", "timestamp": "noon"}]}': "time zone",
        '{"id": "l", "media": [{"path": "front.jpg", "context": "face", "max_side": true}]}': "maximum of pixels",
        '{"id": "l2", "media": [{"path": "front.jpg", "context": "face", "max_bytes": "4M"}]}': "maximum of bytes",
        '{"id": "l3", ' + media + ', "convert": "png"}': 'convert must be "jpeg"',
        '{"id": "m", ' + media + ', "extra": ' + '{"a":' * 200 + "1" + "}" * 200 + "}": "levels",
        '{"id": "n", ' + media + ', "consents": [{"type": "ine"}]}': "approved",
        '{"id": "o", ' + media + ', "document": {"country": "' + SECRET + '"}}': "document.country",
        '{"id": "p", ' + media + ', "vendor_data": "\\ud800"}': "UTF-8",
        '{"id": "q", ' + media + ', "proof_of_address_types": 1}': "must be a list",
        '{"id": "r\\u0007", ' + media + "}": "The id of a job must be",
        '{"id": "s", "media": [{"path": "a\\u0000b", "context": "face"}]}': "cannot be opened",
    }
    rows = read(folder, "\n".join(lines), name="jobs.ndjson")
    found = reasons(rows)

    assert list(range(1, len(lines) + 1)) == list(found)
    assert all(word in found[line] for line, word in enumerate(lines.values(), 1)), found
    assert SECRET not in repr(rows)
    assert {1: "The line is not UTF-8"} == {
        line: reason[:21] for line, reason in reasons(read(folder, b'{"id": "\xff"}', name="jobs.jsonl")).items()
    }


def test_open_quotation_mark_hides_no_other_row(folder: Path) -> None:
    """Lines inside an open quotation mark are read again as rows, also if a later mark seems to close it."""
    text = 'id,face,last_name\n1,front.jpg,"open\n' + "".join(f"{n},front.jpg,x\n" for n in range(2, 100))
    closed = text + '100,front.jpg,"\n101,front.jpg,x\n'

    assert list(range(2, 100)) == [int(job.id) for job in jobs(read(folder, text))]
    assert [*range(2, 100), 101] == [int(job.id) for job in jobs(read(folder, closed))]
    short = 'id,face\n1,"front.jpg\n2,front.jpg\n3,front.jpg",x\n4,front.jpg\n'
    assert ["2", "4"] == [job.id for job in jobs(read(folder, short))]


def test_check_media_false_skips_the_files(folder: Path) -> None:
    """With ``check_media=False`` rows are valid without their files."""
    assert ["1"] == [job.id for job in jobs(read(folder, "id,face\n1,missing.jpg\n", check_media=False))]


def test_unreadable_file_is_reported_without_its_name(tmp_path: Path) -> None:
    """The ending and the timeout are checked by the call, the file when the first row is read."""
    with pytest.raises(InvalidArgumentError, match=r"ends in \.csv"):
        read_manifest(tmp_path / "jobs.xlsx")
    with pytest.raises(InvalidArgumentError, match="The timeout is 0"):
        read_manifest(tmp_path / "jobs.csv", timeout=0)
    for name in (f"{SECRET}.csv", f"\0{SECRET}.jsonl"):
        with pytest.raises(InvalidArgumentError, match="cannot be read") as caught:
            next(read_manifest(tmp_path / name))
        assert SECRET not in str(caught.value)
        assert caught.value.__context__ is None


@given(data=st.binary(max_size=200), is_csv=st.booleans())
def test_any_bytes_yield_rows_or_invalid_rows(
    data: bytes, tmp_path_factory: pytest.TempPathFactory, *, is_csv: bool
) -> None:
    """No content of a file raises; line numbers ascend."""
    folder = tmp_path_factory.getbasetemp()
    header = b"id,face,first_name,timeout,max_side\n" if is_csv else b""
    rows = read(folder, header + data, name="any.csv" if is_csv else "any.jsonl")
    lines = [row.line for row in rows]

    assert sorted(set(lines)) == lines
    assert all(isinstance(row, ManifestRow | InvalidRow) for row in rows)


NAMES = st.sampled_from(sorted({*_MEMBERS, "path", "context", "first_name", "gender", "type", "country", "approved"}))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("face"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(found=st.dictionaries(NAMES, VALUES))
def test_any_json_yields_a_job_or_a_reason(found: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    """A member of any type yields a job or a reason."""
    outcome: object
    try:
        outcome = job_from_members(found, tmp_path_factory.getbasetemp(), 900.0).id
    except RowError as error:
        outcome = str(error)[-1]

    assert outcome in {".", "?"} or outcome == found["id"]


def test_line_that_is_too_long_hides_no_other_line(folder: Path) -> None:
    """A line beyond the limit is reported with its number, and the lines after it are read."""
    media = '"media": [{"path": "front.jpg", "context": "face"}]'
    lines = ['{"id": "a", ' + media + "}", '{"id": "' + "b" * _MAX_LINE * 2 + '"}', '{"id": "c", ' + media + "}"]
    rows = read(folder, "\n".join(lines), name="jobs.jsonl")
    assert ["a", "c"] == [job.id for job in jobs(rows)]
    assert {2: f"The line has more than {_MAX_LINE} bytes: make each job one line."} == reasons(rows)


def test_rows_without_a_timeout_wait_for_any_time(folder: Path) -> None:
    """A manifest that is read with ``timeout=None`` gives its jobs no timeout, unless a row has one."""
    path = folder / "jobs.csv"
    path.write_text("id,face,timeout\n1,front.jpg,\n2,front.jpg,2.5\n")
    assert [None, 2.5] == [job.timeout for job in jobs(list(read_manifest(path, timeout=None)))]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has a file that opens and cannot be read")
def test_disk_that_fails_while_reading_is_reported_without_the_name(tmp_path: Path) -> None:
    """An error of the disk after the opening has the system's reason, and not the path."""
    path = tmp_path / f"{SECRET}.csv"
    path.symlink_to("/proc/self/mem")
    with pytest.raises(InvalidArgumentError, match=r"cannot be read \(Input/output error\)") as caught:
        list(read_manifest(path))
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_media_that_can_be_read_only_once_is_left_for_the_upload() -> None:
    """A stream is not read by the check, and a later media of the job is checked all the same."""

    class Pipe(BytesIO):
        def seekable(self) -> bool:
            return False

    pipe = Pipe(PICTURE)
    assert media_problem(Job(id="a", media=[Media(pipe, "face")])) is None
    problem = media_problem(Job(id="a", media=[Media(pipe, "face"), Media(b"no picture", "document-front")]))
    assert (problem or "").startswith("document-front: ")
    assert PICTURE == pipe.read()


def test_full_disk_for_temporary_files_is_named() -> None:
    """When the ids of a large manifest do not fit on the disk, the error names the folder to look at."""
    with SeenIds() as seen:
        assert seen.add("first", 1) is None
        seen._db.execute("PRAGMA max_page_count = 3")
        with pytest.raises(ConfigurationError, match=r"\(SQLITE_FULL\): check the folder for temporary") as caught:
            deque((seen.add(f"id {number}", number) for number in range(2_000)), maxlen=0)
        assert caught.value.__context__ is None
