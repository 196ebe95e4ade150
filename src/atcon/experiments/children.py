"""What processes and those that they start have in common: surroundings, and their end."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection


@contextmanager
def surrounded(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes that are started within the block.

    NumPy and PyTorch look at some of them when they are imported.
    """
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def end_with(parent: Connection) -> None:
    """Wait for the end of the process at the other end of a pipe, and end this one then."""
    try:
        parent.recv()
    except (EOFError, OSError):
        os._exit(1)
