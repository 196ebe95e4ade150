"""Which files are opened, in which order, as Linux tells it: also those opened by C or Rust."""

import ctypes
import os
import struct
from pathlib import Path
from typing import Self

_OPEN, _NONBLOCK = 0x20, 0o4000
_HEAD = struct.Struct("iIII")


class Opened:
    """Notes every opening of a file in some folders, while it is entered.

    Args:
        folders: What is watched; not the folders in them.
    """

    def __init__(self, *folders: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(_NONBLOCK)
        if self._handle < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self._folders = {}
        for folder in folders:
            watch = self._libc.inotify_add_watch(self._handle, os.fsencode(folder), _OPEN)
            if watch < 0:
                raise OSError(ctypes.get_errno(), str(folder))
            self._folders[watch] = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def paths(self) -> list[Path]:
        """Give what was opened since the last call, in order."""
        found = []
        while True:
            try:
                content = os.read(self._handle, 1 << 20)
            except BlockingIOError:
                return found
            place = 0
            while place < len(content):
                watch, _, _, length = _HEAD.unpack_from(content, place)
                name = content[place + _HEAD.size : place + _HEAD.size + length].rstrip(b"\0")
                if name:
                    found.append(self._folders[watch] / os.fsdecode(name))
                place += _HEAD.size + length
