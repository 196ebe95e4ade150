"""What libav says while it decodes: some decoders hide damage and only mention it in their log."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from av import logging

_lock = Lock()
_listeners = 0
_before: tuple[int | None, bool] = (None, True)


@contextmanager
def complaints() -> Iterator[list[tuple[int, str, str]]]:
    """Collect the errors that libav logs in this thread: level, who, and what.

    The log's settings are those of the whole process: the first listener sets them, and the last
    one puts them back.
    """
    _listen()
    try:
        with logging.Capture() as heard:
            yield heard
    finally:
        _stop()


def _listen() -> None:
    global _listeners, _before  # noqa: PLW0603  as libav's own settings
    with _lock:
        if not _listeners:
            _before = (logging.get_level(), logging.get_skip_repeated())
            logging.set_level(max(logging.ERROR, _before[0] or logging.ERROR))
            logging.set_skip_repeated(False)
        _listeners += 1


def _stop() -> None:
    global _listeners  # noqa: PLW0603  as above
    with _lock:
        _listeners -= 1
        if not _listeners:
            logging.set_level(_before[0])
            logging.set_skip_repeated(_before[1])
