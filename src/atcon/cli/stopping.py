"""Ctrl-C and SIGTERM: a command ends within seconds, and says how to go on."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE = 6.0
"""Seconds that a command has to end by itself; after that it is ended where it stands, which every
file that it writes is made for."""
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_SAYS: list[Callable[[], str]] = []
"""How to go on from where the command is now; the innermost block says it."""


class TerminatedError(BaseException):
    """SIGTERM; as with Ctrl-C, nothing between the signal and the command may catch it."""


STOPS = (KeyboardInterrupt, TerminatedError)
"""What the two signals raise."""


def exit_code_of(stop: BaseException) -> int:
    """Give the exit code of a command that was stopped."""
    return EXIT_CODES[signal.SIGTERM if isinstance(stop, TerminatedError) else signal.SIGINT]


@contextmanager
def stoppable() -> Iterator[None]:
    """Within it, both signals end the command: by an exception, or else after `GRACE`."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    threading.Thread(target=_end_late, args=(heard,), daemon=True).start()
    woken = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    raising = {signal.SIGINT: _interrupt, signal.SIGTERM: _terminate}
    before = {
        number: signal.signal(number, handler)
        for number, handler in raising.items()
        if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        os.close(told)


@contextmanager
def resumable(says: Callable[[], str]) -> Iterator[None]:
    """Within it, whoever stops the command is told how to go on.

    Args:
        says: Completes the sentence "stopped; …"; is called when that is known.
    """
    _SAYS.append(says)
    try:
        yield
    except STOPS as stop:
        import typer  # noqa: PLC0415  its import takes long, and a signal may come before

        sys.stderr.write(_sentence())
        raise typer.Exit(exit_code_of(stop)) from None
    finally:
        _SAYS.pop()


def _interrupt(*_signal: object) -> None:
    raise KeyboardInterrupt


def _terminate(*_signal: object) -> None:
    raise TerminatedError


def _sentence() -> str:
    return f"\natcon: stopped{f'; {_SAYS[-1]()}' if _SAYS else ''}\n"


def _end_late(signals: int) -> None:
    """Wait for a signal, then for the end of the command; end the process where that takes long.

    The main thread may be in code that no exception reaches, such as a read from a lost server.

    Args:
        signals: The end of a pipe that gives the number of every signal; at its end, so is this.
    """
    with open(signals, "rb", buffering=0) as heard:
        code = None
        while code is None:
            number = heard.read(1)
            if not number:
                return
            code = EXIT_CODES.get(signal.Signals(number[0]))
        until = time.monotonic() + GRACE
        while (left := until - time.monotonic()) > 0:
            if select.select([heard], [], [], left)[0] and not heard.read(1):
                return
        os.write(2, _sentence().encode())
        os._exit(code)
