"""Unpack an archive: all of it or nothing, nothing beside its folder, nothing without a limit."""

import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, NoReturn

from atcon.errors import InputError

_BLOCK = 1 << 20
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError)
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_NAME = 255  # bytes of a file's name that file systems take


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may hold.

    Attributes:
        total: Bytes of all files.
        file: Bytes of one file.
        members: Files and folders.
        ratio: Bytes of all files, for each byte of the archive: more is a bomb.
    """

    total: int = 4 * 2**30
    file: int = 64 * 2**20
    members: int = 200_000
    ratio: float = 100.0


def extract(
    archive: Path,
    target: Path,
    *,
    inside: str = "",
    limits: Limits | None = None,
    verified: bool = False,
) -> None:
    """Unpack a tar or zip archive into a new folder.

    All members are looked at before anything is written: an absolute path, `..`, a link, a device,
    two members of one name (also where only case or accents are written otherwise), a file within
    a file, or too much of anything, and nothing is unpacked. What is written goes to a temporary
    folder beside the target, which gets its name at the end. Rights, owners and times are not
    those of the archive; empty folders are left out.

    Args:
        archive: The file; how it is compressed is seen from its content.
        target: The folder, which must not exist yet.
        inside: A folder in the archive, such as "VOCdevkit/VOC2012": that becomes the target, and
            all members must lie in it.
        limits: How much it may hold.
        verified: Whether a checksum has shown the archive to be whole. Otherwise a tar must have
            the mark of its end, which some programs do not write.

    Raises:
        InputError: The target exists, or the archive is unsafe or damaged; names the member.
    """
    if target.exists() or target.is_symlink():
        raise InputError(f"{target} exists already, and {archive} is not unpacked over it")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _members(archive, verified=verified) as members:
            look = _Look(archive, PurePosixPath(inside), limits or Limits())
            for member in members:
                look.add(member)
            _write_all(archive, look.files, target)
    except _DAMAGED as error:
        raise InputError(f"{archive}: cannot be unpacked ({error}); nothing was kept") from error


def _write_all(archive: Path, files: Mapping[PurePosixPath, "_Member"], target: Path) -> None:
    """Write the files into a temporary folder, and give it its name."""
    if not files:
        raise InputError(f"{archive}: there is no file in it")
    new = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        for path, member in files.items():
            _write(archive, member, new / path)
        new.chmod(0o755)
        new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry, as its archive describes it."""

    name: str
    kind: Literal["file", "folder", "link", "special file", "encrypted file"]
    size: int
    open: Callable[[], IO[bytes]]


@contextmanager
def _members(archive: Path, *, verified: bool) -> Iterator[Iterator[_Member]]:
    """Open an archive, and give its entries in order."""
    with ExitStack() as opened:
        if zipfile.is_zipfile(archive):
            packed = opened.enter_context(zipfile.ZipFile(archive))
            yield (_zipped(packed, info) for info in packed.infolist())
        else:
            tar = opened.enter_context(tarfile.open(archive, tarinfo=_TarInfo))
            yield _tar_members(tar, verified=verified)


def _zipped(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    found: Literal["file", "folder", "link", "special file", "encrypted file"] = "special file"
    if info.flag_bits & 1:
        found = "encrypted file"
    elif kind == stat.S_IFLNK:
        found = "link"
    elif info.is_dir() and kind in {0, stat.S_IFDIR}:
        found = "folder"
    elif kind in {0, stat.S_IFREG}:
        found = "file"
    return _Member(_plain(info.orig_filename), found, info.file_size, partial(packed.open, info))


def _plain(name: str) -> str:
    """Leave out what says only that a path is relative, or a folder's."""
    return name.rstrip("/").removeprefix("./") or name[:1]


class _TarInfo(tarfile.TarInfo):
    """Refuses a header that would be read into memory although it is larger than any should be."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _BLOCK:
            raise InputError(f"{tar.name!r}: a header of {self.size:,} bytes in it is refused")
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return found


def _tar_members(tar: tarfile.TarFile, *, verified: bool) -> Iterator[_Member]:
    """Give every member; a damaged header, at which `tarfile` just stops, is an error."""
    for info in tar:
        yield _tarred(tar, info)
    content: Any = tar.fileobj
    content.seek(tar.offset)
    end = content.read(tarfile.BLOCKSIZE)
    if end != tarfile.NUL * tarfile.BLOCKSIZE and (end or not verified):
        raise tarfile.ReadError("it ends, or is damaged, before its end is marked")


def _tarred(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def content() -> IO[bytes]:
        opened = tar.extractfile(info)
        if opened is None:
            raise tarfile.ReadError(f"{info.name} has no content")
        return opened

    found: Literal["file", "folder", "link", "special file"] = "special file"
    if info.issym() or info.islnk():
        found = "link"
    elif info.isdir():
        found = "folder"
    elif info.isreg() and not info.issparse():
        found = "file"
    return _Member(_plain(info.name), found, info.size, content)


class _Look:
    """Looks at every member before anything is written.

    Attributes:
        files: What is to be written, by its path in the target.
    """

    def __init__(self, archive: Path, inside: PurePosixPath, limits: Limits) -> None:
        self.archive = archive
        self.inside = inside
        self.limits = limits
        self.files: dict[PurePosixPath, _Member] = {}
        self._most = int(min(limits.total, limits.ratio * archive.stat().st_size))
        self._total = self._members = 0
        self._taken: dict[str, tuple[PurePosixPath, bool]] = {}

    def add(self, member: _Member) -> None:
        """Look at one member.

        Raises:
            InputError: It is refused.
        """
        if why := self._kind(member) or self._too_much(member) or _bad_path(member):
            self._refuse(member, why)
        path = PurePosixPath(member.name)
        is_folder = member.kind == "folder"
        if is_folder and (path == self.inside or path in self.inside.parents):
            return
        if self.inside not in path.parents:
            self._refuse(member, f"it does not lie in {self.inside}")
        if why := self._claimed(path, is_folder=is_folder):
            self._refuse(member, why)
        if not is_folder:
            self.files[path.relative_to(self.inside)] = member

    def _refuse(self, member: _Member, why: str) -> NoReturn:
        raise InputError(
            f"{self.archive}: {member.name[:200]!r} in it is refused: {why}. Nothing was unpacked"
        )

    def _kind(self, member: _Member) -> str:
        return "" if member.kind in {"file", "folder"} else f"it is a {member.kind}"

    def _too_much(self, member: _Member) -> str:
        self._members += 1
        self._total += member.size if member.kind == "file" else 0
        if self._members > self.limits.members:
            return f"there are more than {self.limits.members:,} members"
        if member.size > self.limits.file:
            return f"its {member.size:,} bytes are more than the limit of {self.limits.file:,}"
        if self._total > self._most:
            return f"up to it there are {self._total:,} bytes, the limit is {self._most:,}"
        return ""

    def _claimed(self, path: PurePosixPath, *, is_folder: bool) -> str:
        """Take a path and the folders above it; say so if it is another's on some file system."""
        for place in (*reversed(path.parents), path):
            now = (place, is_folder or place != path)
            key = unicodedata.normalize("NFC", str(place)).casefold()
            other, other_is_folder = before = self._taken.setdefault(key, now)
            if other != place:
                return f"{str(other)!r} is there as well, which some systems take for the same"
            if before is not now and not (now[1] and other_is_folder):
                return "its path occurs twice"
        return ""


def _bad_path(member: _Member) -> str:
    """Say why the path of a member is not one that every system takes."""
    name = member.name
    parts = name.split("/")
    if name.startswith(("/", "~")) or "\\" in name or ":" in name:
        return "its path is not relative"
    if ".." in parts or "" in parts:
        return "its path leads elsewhere"
    if not name.isprintable():
        return "its path holds characters that cannot be printed"
    if any(len(part.encode()) > _NAME for part in parts):
        return f"a name in its path is longer than {_NAME} bytes"
    return ""


def _write(archive: Path, member: _Member, path: Path) -> None:
    """Write one file anew, of exactly the size that was announced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with member.open() as content, path.open("xb") as written:
        while block := content.read(_BLOCK):
            size += len(block)
            if size > member.size:
                break
            written.write(block)
    if size != member.size:
        raise InputError(
            f"{archive}: member {member.name!r} has not the {member.size:,} bytes that are "
            "announced: the archive is damaged; nothing was kept"
        )
