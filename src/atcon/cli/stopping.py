"""Ctrl-C and SIGTERM: a command ends within seconds, and says how to go on."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 6.0
"""Seconds that a command has to end by itself; after that it is ended where it stands, which every
file that it writes is made for."""
PATIENCE = 1.0
"""Seconds that it has where no exception can be raised, as while a module is imported."""
AGAIN = 0.02
"""Seconds after which a stop that could not be raised is tried once more."""
EXIT_CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}
_SAYS: list[Callable[[], str]] = []
"""How to go on from where the command is now; the innermost block says it."""
_HEARD: list[int] = []
"""The signals so far."""
_LOST = 255
"""What the pipe of the signals tells, besides their numbers: a stop was not raised."""


class StoppedError(BaseException):
    """One of the signals, given by its number; nothing up to the command may catch it."""


STOPS = (KeyboardInterrupt, StoppedError)
"""What stops a command: the second within `stoppable`, the first where Python itself hears it."""


def exit_code_of(stop: BaseException) -> int:
    """Give the exit code of a command that was stopped."""
    number = stop.args[0] if isinstance(stop, StoppedError) else signal.SIGINT
    return EXIT_CODES[number]


@contextmanager
def stoppable() -> Iterator[None]:
    """Within it, both signals end the command: by an exception, or else after `GRACE`.

    The exception waits until no module is being imported, but not longer than `PATIENCE`: PyTorch
    aborts the process where one leaves the import of some of its modules. Python drops an
    exception that leaves a destructor or a callback, so such a one is raised again. What a
    library makes of it, such as an `ImportError`, is the stop that it was.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    threading.Thread(target=_end_late, args=(heard, threading.get_ident()), daemon=True).start()
    woken = signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def again() -> None:
        os.write(told, bytes([_LOST]))

    def hear(number: int, frame: FrameType | None) -> None:
        _HEARD.append(number)
        if not _importing(frame):
            raise StoppedError(number)
        again()

    def unraisable(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, StoppedError):
            again()
        else:
            unraisable_before(lost)

    unraisable_before, sys.unraisablehook = sys.unraisablehook, unraisable
    before = {
        number: signal.signal(number, hear)
        for number in EXIT_CODES
        if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}
    }
    try:
        yield
    except Exception as error:
        stop = _stop_behind(error)
        if stop is None:
            raise
        raise stop from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = unraisable_before
        signal.set_wakeup_fd(woken)
        os.close(told)
        _HEARD.clear()


def _importing(frame: FrameType | None) -> bool:
    """Tell whether a module is being imported at this place."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def resumable(says: Callable[[], str]) -> Iterator[None]:
    """Within it, whoever stops the command is told how to go on.

    Args:
        says: Completes the sentence "stopped; …"; is called when that is known.
    """
    _SAYS.append(says)
    try:
        yield
    except (Exception, *STOPS) as error:
        stop = _stop_behind(error)
        if stop is None:
            raise
        sys.stderr.write(_sentence())
        raise SystemExit(exit_code_of(stop)) from None
    finally:
        _SAYS.pop()


def _stop_behind(error: BaseException) -> BaseException | None:
    """Give the stop that an error is or comes after, and none where no signal was heard."""
    if _HEARD:
        return StoppedError(_HEARD[-1])
    return error if isinstance(error, STOPS) else None


def _sentence() -> str:
    return f"\natcon: stopped{f'; {_SAYS[-1]()}' if _SAYS else ''}\n"


def _end_late(signals: int, main_thread: int) -> None:
    """Wait for a signal, then for the end of the command; end the process where that takes long.

    The main thread may be in code that no exception reaches, such as a read from a lost server.

    Args:
        signals: The end of a pipe that gives the number of every signal; at its end, so is this.
        main_thread: Where a stop is raised.
    """
    with open(signals, "rb", buffering=0) as heard:
        number = 0
        while number not in EXIT_CODES:
            if not (told := heard.read(1)):
                return
            number = told[0]
        began, lost = time.monotonic(), False
        while (left := (PATIENCE if lost else GRACE) - (time.monotonic() - began)) > 0:
            if select.select([heard], [], [], min(left, AGAIN) if lost else left)[0]:
                if not (told := heard.read(1)):
                    return
                lost = told[0] == _LOST
            elif lost:
                lost = False
                signal.pthread_kill(main_thread, number)
        os.write(2, _sentence().encode())
        os._exit(EXIT_CODES[number])
