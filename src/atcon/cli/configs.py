"""`atcon list`, `atcon show`, `atcon copy`: the shipped configurations."""

from pathlib import Path
from typing import Annotated

import typer

from atcon.errors import InputError

Name = Annotated[str, typer.Argument(help="A shipped configuration.")]


def list_configs() -> None:
    """List the shipped configurations."""
    from atcon.experiments.config import shipped  # noqa: PLC0415

    for name, text in shipped().items():
        typer.echo(f"{name:<16}{text.splitlines()[0].removeprefix('# ')}")


def show(name: Name) -> None:
    """Print a shipped configuration."""
    from atcon.experiments.config import shipped_text  # noqa: PLC0415

    typer.echo(shipped_text(name), nl=False)


def copy(
    name: Name,
    path: Annotated[Path, typer.Argument(help="The new YAML file.")],
) -> None:
    """Copy a shipped configuration to a file of your own; never overwrites one."""
    from atcon import records  # noqa: PLC0415
    from atcon.experiments.config import shipped_text  # noqa: PLC0415

    text = shipped_text(name)
    if path.exists():
        raise InputError(f"{path} exists already: choose another file")
    records.write_text(path, text)
    typer.echo(path)
