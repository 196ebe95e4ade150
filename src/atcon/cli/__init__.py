"""The command line. Commands import what they need when they run, so that help is instant."""

import sys

from atcon.errors import AtconError


def main() -> None:
    """Run a command; an error that a user can act on is one message, never a traceback."""
    from atcon.cli.app import app  # noqa: PLC0415  keeps `import atcon.cli` light

    try:
        app()
    except AtconError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{error.strerror or error}", 1)


def fail(message: str, exit_code: int) -> None:
    """Print an error and leave."""
    sys.stderr.write(f"atcon: {message}\n")
    raise SystemExit(exit_code)
