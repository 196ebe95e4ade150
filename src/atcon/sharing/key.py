"""The key of the pseudonyms: a file of its owner's alone, made on first use."""

import os
import secrets
import stat
from pathlib import Path

from atcon.errors import InputError

BYTES = 32


def key_of(path: Path) -> tuple[bytes, bool]:
    """Read a key, or make one where there is no such file.

    Returns:
        The key, and whether it is new.

    Raises:
        InputError: The file holds no key, or others than its owner can read it.
    """
    try:
        write_private(path, secrets.token_hex(BYTES) + "\n")
    except FileExistsError:
        return _read(path), False
    return _read(path), True


def write_private(path: Path, text: str) -> None:
    """Write a new file that nobody else can read; an existing one is a `FileExistsError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as private:
        private.write(text)
        private.flush()
        os.fsync(private.fileno())


def _read(path: Path) -> bytes:
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise InputError(f"{path}: others can read this key; run: chmod 600 {path}")
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except ValueError:  # neither hexadecimal nor ASCII
        key = b""
    if len(key) != BYTES:
        raise InputError(
            f"{path}: not a key, which is {2 * BYTES} hexadecimal digits; name a file that does "
            "not exist yet, and it is made"
        )
    return key
