import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from pipeline import content_of

from atcon.data.archive import Limits, extract
from atcon.errors import InputError

FILES = {"a.txt": b"one", "deep/er/b.bin": bytes(range(256)) * 10, "deep/c": b""}


def tarred(path: Path, *entries, mode="w") -> Path:
    """A tar of (name, content) or TarInfo."""
    with tarfile.open(path, mode) as archive:
        for entry in entries:
            info, content = entry if isinstance(entry, tuple) else (entry, b"")
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, *entries, compression=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for info, content in entries:
            archive.writestr(info, content)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def place(tmp_path: Path):
    """A folder with something precious beside the target, and what must not change."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "kept.txt").write_text("mine")
    return tmp_path


def assert_refused(place: Path, archive: Path, says: str, **options) -> None:
    before = content_of(place)
    with pytest.raises(InputError, match=says) as refused:
        extract(archive, place / "target", **options)
    assert str(archive) in str(refused.value)
    assert content_of(place) == before
    assert not (place / "target").exists()
    assert not list(place.glob(".target*"))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_an_archive_is_unpacked_whole_with_rights_of_its_own(place, mode):
    archive = place / "archive"
    if mode == "zip":
        zipped(archive, *FILES.items(), ("empty/", b""))
    else:
        tarred(archive, *FILES.items(), special("empty", tarfile.DIRTYPE), mode=mode)
    extract(archive, place / "target")
    found = {
        path.relative_to(place / "target").as_posix(): path.read_bytes()
        for path in (place / "target").rglob("*")
        if path.is_file()
    }
    assert found == FILES
    assert stat.S_IMODE((place / "target").stat().st_mode) == 0o755
    assert not list(place.glob(".target*"))


def test_rights_of_the_archive_are_not_taken_over(place):
    info = tarfile.TarInfo("program")
    info.mode, info.mtime, info.uid = 0o6777, 12345, 4321
    extract(tarred(place / "archive", info), place / "target")
    found = (place / "target" / "program").stat()
    assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)
    assert found.st_mtime > 10**9
    assert found.st_uid == os.getuid()


def test_a_folder_inside_becomes_the_target(place):
    root = special("./", tarfile.DIRTYPE)
    above = special("./kit", tarfile.DIRTYPE)
    archive = tarred(place / "archive", root, above, ("./kit/2012/a", b"x"), ("kit/2012/d/b", b"y"))
    extract(archive, place / "deep" / "target", inside="kit/2012")
    assert (place / "deep/target/d/b").read_bytes() == b"y"
    archive = tarred(place / "other", ("kit/2012/a", b"x"), ("kit/2007/a", b"y"))
    assert_refused(place, archive, r"'kit/2007/a' .* does not lie in kit/2012", inside="kit/2012")
    archive = tarred(place / "third", ("kit", b"x"), ("kit/2012/a", b"y"))
    assert_refused(place, archive, "does not lie in kit/2012", inside="kit/2012")


HOSTILE_PATHS = {
    "../out": "leads elsewhere",
    "a/../../out": "leads elsewhere",
    "a/..": "leads elsewhere",
    "..": "leads elsewhere",
    "a//b": "leads elsewhere",
    "/out": "not relative",
    "//host/out": "not relative",
    "~/out": "not relative",
    "C:/out": "not relative",
    "..\\out": "not relative",
    "a\\..\\..\\out": "not relative",
    "a\nb": "cannot be printed",
    "a\x1b[2Jb": "cannot be printed",
    "x" * 256: "longer than 255 bytes",
}


@pytest.mark.parametrize("name", HOSTILE_PATHS, ids=repr)
@pytest.mark.parametrize("make", [tarred, zipped])
def test_a_path_that_leads_elsewhere_is_refused(place, make, name):
    archive = make(place / "archive", ("good", b"x"), (name, b"out"))
    assert_refused(place, archive, HOSTILE_PATHS[name])


def test_a_name_that_is_cut_at_a_zero_byte_is_refused(place):
    archive = zipped(place / "archive", ("goodXbad", b"x"))
    archive.write_bytes(archive.read_bytes().replace(b"goodXbad", b"good\0bad"))
    assert_refused(place, archive, "cannot be printed")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["../precious", "/etc", "inside"])
def test_a_link_is_refused_also_where_it_would_be_written_through(place, kind, target):
    through = ("link/kept.txt", b"changed")
    archive = tarred(place / "archive", ("inside", b""), special("link", kind, target), through)
    assert_refused(place, archive, "'link' in it is refused: it is a link")


def test_a_link_in_a_zip_is_refused(place):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = zipped(place / "archive", (link, b"../precious"), ("link/kept.txt", b"changed"))
    assert_refused(place, archive, "it is a link")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_is_refused(place, kind):
    assert_refused(place, tarred(place / "archive", special("null", kind)), "it is a special file")
    fifo = zipfile.ZipInfo("fifo")
    fifo.external_attr = (stat.S_IFIFO | 0o666) << 16
    assert_refused(place, zipped(place / "zip", (fifo, b"")), "it is a special file")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("a", "b", "a"), "'a' in it is refused: its path occurs twice"),
        (("a", "./a"), "occurs twice"),
        (("dir/File", "dir/file"), "'dir/File' is there as well"),
        (("Dir/a", "dir/b"), "'Dir' is there as well"),
        (("caf\u00e9", "cafe\u0301"), "'caf\u00e9' is there as well"),
        (("stra\u00dfe", "STRASSE"), "is there as well"),
        (("a", "a/b"), "occurs twice"),
        (("a/b", "a"), "occurs twice"),
    ],
)
@pytest.mark.parametrize("make", [tarred, zipped])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_path_are_refused(place, make, names, says):
    archive = make(place / "archive", *((name, b"x") for name in names))
    assert_refused(place, archive, says)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(total=10_000), "'b' in it is refused: up to it there are 12,000 bytes, the limit"),
        (Limits(file=5_000), "'a' in it is refused: its 6,000 bytes are more than the limit"),
        (Limits(members=1), "'b' in it is refused: there are more than 1 members"),
        (Limits(ratio=2.0), "up to it there are"),
    ],
)
@pytest.mark.parametrize("make", [tarred, zipped])
def test_more_than_the_limits_is_refused(place, make, limits, says):
    options = {"mode": "w:gz"} if make is tarred else {}
    archive = make(place / "archive", ("a", bytes(6000)), ("b", bytes(6000)), **options)
    assert_refused(place, archive, says, limits=limits)


@pytest.mark.parametrize("make", [tarred, zipped])
def test_a_bomb_is_refused_without_limits_of_ones_own(place, make):
    options = {"mode": "w:xz"} if make is tarred else {}
    archive = make(place / "bomb", ("zeros", bytes(20_000_000)), **options)
    assert archive.stat().st_size < 100_000
    assert_refused(place, archive, "up to it there are 20,000,000 bytes")


def test_a_header_as_large_as_a_bomb_is_not_read(place):
    info = tarfile.TarInfo("a")
    info.pax_headers = {"comment": "x" * 3_000_000}
    archive = place / "archive"
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as made:
        made.addfile(info)
    with pytest.raises(InputError, match=r"a header of 3,000,0\d\d bytes in it is refused"):
        extract(archive, place / "target")


def test_a_zip_whose_sizes_lie_is_refused(place):
    archive = zipped(place / "archive", ("a", b"x" * 1000), compression=zipfile.ZIP_STORED)
    content = archive.read_bytes()
    archive.write_bytes(content.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert_refused(place, archive, "has not the 10 bytes|cannot be unpacked")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "zip"])
@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5, 0.8, 0.95])
def test_a_truncated_archive_is_never_taken_for_a_whole_one(place, mode, kept):
    entries = [(f"{number:02d}", os.urandom(3000)) for number in range(20)]
    whole = place / "archive"
    if mode == "zip":
        zipped(whole, *entries)
    else:
        tarred(whole, *entries, mode=mode)
    if mode == "w":  # without what pads the last record
        whole.write_bytes(whole.read_bytes()[: 20 * (512 + 3072)])
    content = whole.read_bytes()
    whole.write_bytes(content[: int(kept * len(content))])
    assert_refused(place, whole, "cannot be unpacked")


def test_a_tar_that_ends_between_two_members_is_refused(place):
    whole = tarred(place / "archive", ("a", bytes(512)), ("b", bytes(512)))
    whole.write_bytes(whole.read_bytes()[:1024])
    assert_refused(place, whole, "before its end is marked")


def test_a_tar_without_the_mark_of_its_end_is_unpacked_after_its_checksum_was_right(place):
    whole = tarred(place / "archive", ("a", bytes(512)), ("b", bytes(512)))
    whole.write_bytes(whole.read_bytes()[:2048])
    assert_refused(place, whole, "before its end is marked")
    extract(whole, place / "target", verified=True)
    assert (place / "target" / "b").read_bytes() == bytes(512)


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(place):
    whole = tarred(place / "archive", ("a", bytes(512)), ("b", bytes(512)), ("c", b""))
    content = bytearray(whole.read_bytes())
    content[1024 + 148 : 1024 + 156] = b"99999999"
    whole.write_bytes(content)
    for verified in (False, True):
        assert_refused(place, whole, "before its end is marked", verified=verified)


def test_a_damaged_file_in_a_zip_is_found_by_its_checksum(place):
    archive = zipped(place / "archive", ("a", b"x" * 1000), compression=zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"xxxx", b"xyxx", 1))
    assert_refused(place, archive, "cannot be unpacked .*CRC")


def test_what_is_no_archive_says_so(place):
    (place / "archive").write_text("<html>not found</html>")
    assert_refused(place, place / "archive", "cannot be unpacked")
    assert_refused(place, place / "missing", "cannot be unpacked")
    assert_refused(place, tarred(place / "empty"), "there is no file in it")


@pytest.mark.parametrize("made", ["folder", "full", "file", "link"])
def test_what_is_there_is_never_unpacked_over(place, made):
    target = place / "target"
    if made in {"folder", "full"}:
        target.mkdir()
    if made == "full":
        (target / "a").write_text("mine")
    if made == "file":
        target.write_text("mine")
    if made == "link":
        target.symlink_to(place / "precious")
    before = content_of(place)
    archive = tarred(place / "archive", ("a", b"theirs"))
    with pytest.raises(InputError, match="exists already"):
        extract(archive, target)
    archive.unlink()
    assert content_of(place) == before
