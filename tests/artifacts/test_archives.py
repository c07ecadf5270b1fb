"""Archives of strangers: what is refused, by what name, and that nothing of it leaves the folder."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from skerry.artifacts.archives import ArchiveLimits, Danger, UnsafeArchive, inspect, unpack
from skerry.artifacts.files.errors import BadFile
from skerry.artifacts.sources import SourceCheck

SMALL = ArchiveLimits(entries=20, bytes=1 << 20, ratio=50, ratio_from=64 << 10, name_bytes=100, depth=8)


def tar(*members: tarfile.TarInfo | tuple[str, bytes] | str, format: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=format) as archive:
        for member in members:
            name, data = (
                (member, b"x") if isinstance(member, str) else member if isinstance(member, tuple) else ("", b"")
            )
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data) if name else info.size
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return made


def special(name: str, kind: bytes, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def zipped(*members: zipfile.ZipInfo | str, data: bytes = b"x", method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for member in members:
            archive.writestr(member, data)
    return made


def zip_entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def patched(made: io.BytesIO, before: bytes, after: bytes) -> io.BytesIO:
    assert before in made.getvalue() and len(before) == len(after)
    return io.BytesIO(made.getvalue().replace(before, after))


def encrypted() -> io.BytesIO:
    made = bytearray(zipped("secret.py").getvalue())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = made.index(signature) + offset
        made[at] |= 1
    return io.BytesIO(bytes(made))


def gzip_of(data: bytes) -> io.BytesIO:
    return io.BytesIO(gzip.compress(data))


def endless_header() -> io.BytesIO:
    """A PAX header that says of itself to have 3 GiB: whoever reads it into memory is lost."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 3 << 30
    return gzip_of(info.tobuf() + b"30 comment=" + b"a" * (4 << 20))


def cut(made: io.BytesIO) -> io.BytesIO:
    return io.BytesIO(made.getvalue()[:-30])


def cut_between() -> io.BytesIO:
    """The compressed stream ends well inside of what tar would need."""
    plain = gzip.decompress(tar(("a", bytes(600)), ("b", b"y")).getvalue())
    return io.BytesIO(gzip.compress(plain[:700])[:-8])


def damaged() -> io.BytesIO:
    made = bytearray(tar(("x", os.urandom(5000))).getvalue())
    made[-5] ^= 0xFF  # in the check sum
    return io.BytesIO(bytes(made))


def patched_name() -> io.BytesIO:
    info = tarfile.TarInfo("caf?.py")
    block = info.tobuf(format=tarfile.USTAR_FORMAT)
    wrong = bytearray(block.replace(b"caf?", b"caf\xe9"))
    wrong[148:156] = b"%06o\0 " % (256 + sum(wrong[:148]) + sum(wrong[156:512]))
    return gzip_of(bytes(wrong) + bytes(1024))


def patched_link() -> io.BytesIO:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("x", "x")
        archive.writestr(zip_entry("l", stat.S_IFLNK | 0o777), "../../etc")
    return made


SAFE = {
    "tar": lambda: tar("./train.py", ("lib/net.py", b"y" * 3000), special("lib", tarfile.DIRTYPE, mode=0o755)),
    "tar, GNU": lambda: tar("train.py", ("d/" + "n" * 90, b"z"), format=tarfile.GNU_FORMAT),
    "zip": lambda: zipped("train.py", "lib/net.py", "lib/"),
    "link inside": lambda: tar("a/real.py", special("b/link.py", tarfile.SYMTYPE, link="../a/real.py")),
    "folder named twice": lambda: tar(special("d", tarfile.DIRTYPE), special("d/", tarfile.DIRTYPE), "d/x"),
    "folder that gives its group": lambda: tar(special("d", tarfile.DIRTYPE, mode=0o2755), "d/x"),
}

REFUSED = {
    "absolute": (lambda: tar("/etc/passwd"), Danger.ABSOLUTE_PATH, "/etc/passwd"),
    "absolute, zip": (lambda: zipped("/etc/passwd"), Danger.ABSOLUTE_PATH, "/etc/passwd"),
    "dots": (lambda: tar("ok", "a/../../evil"), Danger.OUTSIDE, "a/../../evil"),
    "dots, zip": (lambda: zipped("../evil"), Danger.OUTSIDE, "../evil"),
    "link to the root": (lambda: tar("x", special("l", tarfile.SYMTYPE, link="/etc")), Danger.LINK_OUTSIDE, "l"),
    "link out": (lambda: tar("x", special("a/l", tarfile.SYMTYPE, link="../../x")), Danger.LINK_OUTSIDE, "a/l"),
    "link out by another": (
        lambda: tar(
            "x/y/z", special("a", tarfile.SYMTYPE, link="x/y"), special("b", tarfile.SYMTYPE, link="a/../../../etc")
        ),
        Danger.LINK_OUTSIDE,
        "b",
    ),
    "links in a circle": (
        lambda: tar("x", special("a", tarfile.SYMTYPE, link="b"), special("b", tarfile.SYMTYPE, link="a")),
        Danger.LINK_OUTSIDE,
        "a",
    ),
    "link, zip": (patched_link, Danger.LINK_OUTSIDE, "l"),
    "file through a link": (
        lambda: tar("x", special("d", tarfile.SYMTYPE, link="."), "d/evil"),
        Danger.THROUGH_LINK,
        "d/evil",
    ),
    "link in the place of a folder": (
        lambda: tar("d/x", special("d", tarfile.SYMTYPE, link=".")),
        Danger.DUPLICATE,
        "d",
    ),
    "hard link": (lambda: tar("x", special("h", tarfile.LNKTYPE, link="x")), Danger.HARD_LINK, "h"),
    "device": (lambda: tar(special("null", tarfile.CHRTYPE)), Danger.SPECIAL_FILE, "null"),
    "block device": (lambda: tar(special("sda", tarfile.BLKTYPE)), Danger.SPECIAL_FILE, "sda"),
    "pipe": (lambda: tar(special("p", tarfile.FIFOTYPE)), Danger.SPECIAL_FILE, "p"),
    "pipe, zip": (lambda: zipped(zip_entry("p", stat.S_IFIFO | 0o644)), Danger.SPECIAL_FILE, "p"),
    "set-user-ID": (lambda: tar(special("su", tarfile.REGTYPE, mode=0o4755)), Danger.SET_ID, "su"),
    "set-group-ID, zip": (lambda: zipped(zip_entry("su", 0o102755)), Danger.SET_ID, "su"),
    "set-user-ID folder": (lambda: tar(special("d", tarfile.DIRTYPE, mode=0o4755)), Danger.SET_ID, "d"),
    "twice": (lambda: tar("x", "./x"), Danger.DUPLICATE, "x"),
    "twice, zip": (lambda: patched(zipped("aa", "ab"), b"ab", b"aa"), Danger.DUPLICATE, "aa"),
    "name not UTF-8": (patched_name, Danger.NAME_NOT_UTF8, ""),
    "name not UTF-8, zip": (lambda: patched(zipped("caf#.py"), b"caf#", b"caf\xe9"), Danger.NAME_NOT_UTF8, ""),
    "name with a control character": (lambda: tar("a\x1b[2Jb"), Danger.BAD_NAME, "a\x1b[2Jb"),
    "name of Windows": (lambda: zipped("a\\b"), Danger.BAD_NAME, "a\\b"),
    "name too long": (lambda: tar("n" * 101), Danger.BAD_NAME, "n" * 101),
    "name too deep": (lambda: tar("d/" * 9 + "x"), Danger.BAD_NAME, "d/" * 9 + "x"),
    "too many": (lambda: tar(*(f"f{number}" for number in range(21))), Danger.TOO_MANY, ""),
    "one folder too often": (
        lambda: tar("x", *(special("d", tarfile.DIRTYPE) for _ in range(20))),
        Danger.TOO_MANY,
        "",
    ),
    "too many, zip": (lambda: zipped(*(f"f{number}" for number in range(21))), Danger.TOO_MANY, ""),
    "too large": (lambda: tar(("big", os.urandom((1 << 20) + 1))), Danger.TOO_LARGE, "big"),
    "too large, zip": (lambda: zipped("big", data=os.urandom((1 << 20) + 1)), Danger.TOO_LARGE, "big"),
    "bomb": (lambda: tar(("zeros", bytes(1 << 19))), Danger.BOMB, "zeros"),
    "bomb, zip": (lambda: zipped("zeros", data=bytes(1 << 19)), Danger.BOMB, "zeros"),
    "bomb in a header": (endless_header, Danger.BOMB, ""),
    "encrypted": (encrypted, Danger.ENCRYPTED, "secret.py"),
    "another compression": (
        lambda: zipped("x", method=zipfile.ZIP_LZMA),
        Danger.METHOD,
        "x",
    ),
    "empty": (lambda: tar(special("d", tarfile.DIRTYPE)), Danger.EMPTY, ""),
    "empty, zip": (zipped, Danger.EMPTY, ""),
    "cut off": (lambda: cut(tar(("x", os.urandom(5000)))), Danger.BROKEN, ""),
    "cut off, zip": (lambda: cut(zipped("x")), Danger.BROKEN, ""),
    "cut off between entries": (cut_between, Danger.BROKEN, ""),
    "damaged": (damaged, Danger.BROKEN, ""),
    "gzip of something else": (lambda: gzip_of(b"no tar at all" * 100), Danger.BROKEN, ""),
    "no archive": (lambda: io.BytesIO(b"#!/bin/sh\n"), Danger.NOT_AN_ARCHIVE, ""),
    "nothing": (io.BytesIO, Danger.NOT_AN_ARCHIVE, ""),
}


@pytest.mark.parametrize("make", SAFE.values(), ids=SAFE.keys())
def test_a_safe_archive_is_unpacked_as_it_was_looked_through(make, tmp_path: Path) -> None:
    seen = inspect(make(), SMALL)
    assert unpack(make(), tmp_path, SMALL) == seen
    found = [path for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file()]
    assert len(found) == seen.files >= 1
    assert all(path.resolve().is_relative_to(tmp_path) for path in found)


@pytest.mark.parametrize(("make", "danger", "entry"), REFUSED.values(), ids=REFUSED.keys())
def test_a_dangerous_archive_is_refused_by_name(make, danger, entry, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    for act in (lambda: inspect(make(), SMALL), lambda: unpack(make(), inside, SMALL)):
        with pytest.raises(UnsafeArchive) as caught:
            act()
        assert caught.value.danger is danger, caught.value
        if entry:
            assert caught.value.entry == entry
    assert [path.name for path in tmp_path.iterdir()] == ["inside"], "something went out of the folder"


def test_modes_are_plain_ones(tmp_path: Path) -> None:
    unpack(tar(special("run", tarfile.REGTYPE, mode=0o777), special("read", tarfile.REGTYPE, mode=0o666)), tmp_path)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) & 0o022 == 0
    assert (tmp_path / "run").stat().st_mode & stat.S_IXUSR
    assert not (tmp_path / "read").stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("danger", list(Danger))
def test_every_danger_has_a_case(danger: Danger) -> None:
    assert danger in {case[1] for case in REFUSED.values()}


def test_an_upload_is_refused_with_the_danger_as_its_code() -> None:
    check = SourceCheck()
    data = tar("x", "../../etc/cron.d/x").getvalue()
    for at in range(0, len(data), 100):
        check.feed(data[at : at + 100])
    with pytest.raises(BadFile) as caught:
        check.finish()
    assert caught.value.code == "path_outside"
    assert "../../etc/cron.d/x" in caught.value.detail
    assert caught.value.errors[0].path == "file"


def test_an_upload_tells_what_is_in_it() -> None:
    check = SourceCheck()
    check.feed(zipped("a.py", "b.py", data=b"12345").getvalue())
    assert check.finish() == {"kind": "zip", "files": 2, "unpacked_bytes": 10}
