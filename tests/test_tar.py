from __future__ import annotations

import contextlib
import io
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.packages import File, tarball

from envbox.packages.link.tar import (
    BLOCK,
    DIRECTORY,
    END,
    FILE,
    SYMLINK,
    Member,
    TarError,
    TarReader,
    header,
    padding,
)

names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=300).map(
    lambda text: "/".join(part or "x" for part in text.strip("/").split("/"))
)


def read(data: bytes) -> list[tuple[Member, bytes]]:
    reader = TarReader(io.BytesIO(data))
    return [(member, bytes(reader.read())) for member in reader]


def test_a_header_says_nothing_of_the_machine_it_was_written_on() -> None:
    block = header("a", size=1, mtime=5)
    info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    assert (info.uid, info.gid, info.uname, info.gname, info.devmajor, info.mode) == (0, 0, "", "", 0, 0o644)


def test_a_short_ascii_header_is_one_plain_ustar_block() -> None:
    block = header("bin/python", mode=0o755, size=3, mtime=1_700_000_000)
    assert len(block) == BLOCK
    assert block[257:265] == b"ustar\x0000"


@given(names, names, st.integers(0, 2**40), st.integers(-(2**40), 2**40))
def test_python_reads_what_we_write(name: str, link: str, size: int, mtime: int) -> None:
    file = tarfile.open(fileobj=io.BytesIO(header(name, FILE, size=size, mtime=mtime) + END))  # noqa: SIM115
    info = file.next()
    assert info is not None
    assert (info.name, info.size, info.mtime) == (name.rstrip("/"), size, mtime)
    data = header("l", SYMLINK, mode=0o777, link=link) + END
    assert tarfile.open(fileobj=io.BytesIO(data)).getmembers()[0].linkname == link  # noqa: SIM115


@given(st.lists(st.tuples(names, st.binary(max_size=2000), st.integers(0, 2**33)), max_size=5))
def test_we_read_what_we_write(files: list[tuple[str, bytes, int]]) -> None:
    data = b"".join(
        header(name, size=len(body), mtime=mtime) + body + padding(len(body)) for name, body, mtime in files
    )
    assert [(m.name, m.mtime, body) for m, body in read(data + END)] == [(n, t, b) for n, b, t in files]


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_we_read_what_python_writes(style: int) -> None:
    long = "folder/" * 20 + "file"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as archive:
        for name in (long, "short", "d"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name == "d" else tarfile.REGTYPE
            info.size = 0 if name == "d" else len(name)
            info.mode, info.mtime = 0o2755, 12345
            archive.addfile(info, io.BytesIO(name.encode()))
    found = read(buffer.getvalue())
    assert [m.name.rstrip("/") for m, _ in found] == [long, "short", "d"]
    assert [(m.mode, m.mtime) for m, _ in found] == [(0o2755, 12345)] * 3
    assert [body for _, body in found] == [long.encode(), b"short", b""]
    assert found[2][0].kind == DIRECTORY


@pytest.mark.parametrize(
    ("said", "floored"),
    [("1700000000.9999999999", 1_700_000_000), ("5", 5), ("-1.5", -2), ("-2.0", -2), ("0.1", 0)],
)
def test_a_time_is_floored_as_it_is_written_not_as_a_float_rounds_it(said: str, floored: int) -> None:
    ((member, _),) = read(tarball([("a", File(pax={"mtime": said}))]))
    assert member.mtime == floored


def test_owner_and_extended_attributes_are_read() -> None:
    value = b"\1\0\0\2=\n\xff"
    entry = File(pax={"SCHILY.xattr.security.capability": value.decode("utf-8", "surrogateescape")})
    far = File(pax={"uid": "4000000", "gid": "5000000"})
    (member, _), (plain, _), (distant, _) = read(tarball([("a", entry), ("b", File()), ("c", far)]))
    assert (member.owner, distant.owner) == ((1000, 0), (4_000_000, 5_000_000))
    assert (member.attributes, plain.attributes) == ((("security.capability", value),), ())


def test_data_that_nobody_reads_is_skipped() -> None:
    reader = TarReader(io.BytesIO(tarball([("a", File(b"x" * 3_000_000)), ("b", File(b"y"))])))
    assert [member.name for member in reader] == ["a", "b"]


def test_large_data_comes_in_pieces_of_at_most_a_mebibyte() -> None:
    reader = TarReader(io.BytesIO(tarball([("a", File(b"x" * 3_000_000))])))
    next(iter(reader))
    pieces = list(reader.chunks())
    assert max(map(len, pieces)) == 1 << 20
    assert sum(map(len, pieces)) == 3_000_000


@pytest.mark.parametrize("at", [100, 700, 1000, 1100, 2000])
def test_a_truncated_archive_is_refused(at: int) -> None:
    with pytest.raises(TarError, match="in the middle"):
        read(tarball([("a", File(b"x" * 600)), ("b", File(b"y"))])[:at])


def test_a_damaged_header_is_refused() -> None:
    data = bytearray(header("a", size=0) + END)
    data[3] ^= 1
    with pytest.raises(TarError, match="checksum"):
        read(bytes(data))


def test_a_sparse_file_is_refused() -> None:
    with pytest.raises(TarError, match="sparse"):
        read(tarball([("a", File(pax={"GNU.sparse.major": "1"}))]))


def test_a_name_with_a_nul_is_refused_and_not_cut_there() -> None:
    body = b"26 path=bin/python\0.so.aa\n"
    data = header("PaxHeaders/x", b"x", size=len(body)) + body + padding(len(body)) + header("a") + END
    with pytest.raises(TarError, match="NUL"):
        read(data)


def test_a_name_that_is_not_utf8_is_refused() -> None:
    block = bytearray(header("abc"))
    block[0:3] = b"\xff\xfe\xfd"
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(TarError, match="UTF-8"):
        read(bytes(block) + END)


def test_an_extension_header_larger_than_any_path_is_refused() -> None:
    with pytest.raises(TarError, match="extension"):
        read(header("x", b"x", size=2 << 20) + bytes(3 << 20))


@pytest.mark.parametrize("digits", ["9" * 5000, "0" * 5000 + "9", "", "1" * 7])
def test_a_length_that_is_no_number_is_refused(digits: str) -> None:
    body = f"{digits} path=a\n".encode()
    data = header("PaxHeaders/x", b"x", size=len(body)) + body + padding(len(body)) + header("a") + END
    with pytest.raises(TarError, match="damaged extension"):
        read(data)


@pytest.mark.parametrize("key", ["size", "mtime", "uid"])
def test_a_number_that_is_too_long_is_refused(key: str) -> None:
    with pytest.raises(TarError, match="damaged extension"):
        read(tarball([("a", File(b"x", pax={key: "9" * 5000}))]))


def test_extension_headers_without_end_are_refused() -> None:
    body = b"400000 SCHILY.xattr.a=" + b"x" * (400_000 - 23) + b"\n"
    one = header("PaxHeaders/x", b"x", size=len(body)) + body + padding(len(body))
    assert [member.name for member, _ in read((one + header("a")) * 4 + END)] == ["a"] * 4
    with pytest.raises(TarError, match="extension header of"):
        read(one * 3 + header("a") + END)


def test_noise_is_refused_or_read_but_never_crashes() -> None:
    whole = tarball([("a" * 120, File(b"x" * 600)), ("b", File(b"y", pax={"mtime": "1.5"}))])
    dice = random.Random(0)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        with contextlib.suppress(TarError):
            read(bytes(data))
