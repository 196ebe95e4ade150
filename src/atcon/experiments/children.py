"""What processes and those that they start have in common: surroundings, and their end."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection


def how_ended(exit_code: int) -> str:
    """Say how a process ended that did not say so itself; its name goes before."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"was ended from outside by {name}{hint}"


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
