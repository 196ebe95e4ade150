"""The command line. Commands import what they need when they run, so that help is instant."""

import os
import sys

from atcon.errors import AtconError, said
from atcon.plain_text import printable_lines

WRONG_PATH = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""What the system says of a path that the user can change; anything else is not wrong input."""

_FULL = "OutOfMemoryError"
"""What PyTorch, which need not be loaded, raises where the memory of a device runs out."""


def main() -> None:
    """Run a command; an error that a user can act on is one message, never a traceback."""
    from atcon.cli.stopping import STOPS, exit_code_of, stoppable  # noqa: PLC0415  as below

    # timm's client, which fetches weights where asked to, would tell what else is installed
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    try:
        with stoppable():
            from atcon.cli.app import app  # noqa: PLC0415  keeps `import atcon.cli` light

            app()
    except STOPS as stop:
        fail("stopped", exit_code_of(stop))
    except AtconError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        fail(said(error), 2 if isinstance(error, WRONG_PATH) else 1)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or type(error).__name__ == _FULL):
            raise
        about = str(error).partition("\n")[0] or "of the machine"
        fail(f"the memory ran out ({about}): free some, or give fewer or smaller images", 1)


def fail(message: str, exit_code: int) -> None:
    """Print an error and leave."""
    sys.stderr.write(printable_lines(f"atcon: {message}") + "\n")
    raise SystemExit(exit_code)
