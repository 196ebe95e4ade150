"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from atcon.errors import InputError

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as data.per_class=4."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write; must not exist yet.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Of every random choice.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="32-true, 64-true, 16-mixed or bf16-mixed.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show the result only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, nothing else.")]
NoImages = Annotated[
    bool,
    typer.Option(
        "--no-images", help="Write no pictures of images: short for --set evaluation.gallery=0."
    ),
]
Figures = Annotated[
    Path | None,
    typer.Option(
        "--figures",
        metavar="DIR",
        help="Also write every figure as PDF and PNG, for a paper; a new folder.",
    ),
]
RUNS = Path("runs/experiments")
"""Where the runs of experiments lie, unless another folder is named."""
Resume = Annotated[bool, typer.Option("--resume", help="Continue an unfinished run in --out.")]


def overrides(
    sets: list[str] | None,
    seed: int | None,
    device: str | None,
    precision: str | None,
    *,
    no_images: bool = False,
) -> list[str]:
    """Put the options that are short for a key behind the `--set` values, so that they win."""
    gallery = 0 if no_images else None
    short = {"seed": seed, "device": device, "precision": precision, "evaluation.gallery": gallery}
    given = [f"{key}={value}" for key, value in short.items() if value is not None]
    return [*(sets or []), *given]


def shares_of(text: str) -> list[float]:
    """Read the numbers of `--shares`.

    Raises:
        InputError: They are none.
    """
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"--shares: {text!r} is not a list of numbers, such as 2,1,1") from None


def default_out(name: str) -> Path:
    """The first folder `runs/NAME-K` that does not exist."""
    number = 1
    while (path := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return path
