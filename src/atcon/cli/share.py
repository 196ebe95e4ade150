"""`atcon share RUN`: a copy of a run for others, in which names are pseudonyms."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atcon.plain_text import as_text

if TYPE_CHECKING:
    from atcon.sharing import Pseudonyms

Key = Annotated[
    Path,
    typer.Option(
        "--key",
        metavar="FILE",
        help="The secret key of the pseudonyms; made on first use, readable by you alone.",
    ),
]


def share(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the copy.")],
    key: Key,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="With the gallery's pictures; what is written or seen in them is not replaced.",
        ),
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="FILE",
            help="A new CSV, for you alone: which pseudonym stands for what.",
        ),
    ] = None,
) -> None:
    """Copy the small records of a run, its names replaced by pseudonyms, without the weights."""
    from atcon.records import check_new  # noqa: PLC0415
    from atcon.sharing import check_apart, write_private  # noqa: PLC0415
    from atcon.sharing import share as share_run  # noqa: PLC0415

    if table is not None:
        check_apart(table, run, out)
        check_new(table, "--table")
    names = pseudonyms(key, run, out)
    typer.echo(share_run(run, out, names, images=images))
    if table is not None:
        write_private(table, _csv(names.given))


def pseudonyms(key: Path, *folders: Path) -> "Pseudonyms":
    """Give the pseudonyms of a key, and say so where it had to be made."""
    from atcon.sharing import Pseudonyms, check_apart, key_of  # noqa: PLC0415

    check_apart(key, *folders)
    secret, new = key_of(key)
    if new:
        typer.echo(
            f"made a new key: {key}. Keep it secret, and keep it: only the same key gives the same "
            "pseudonyms again.",
            err=True,
        )
    return Pseudonyms(secret)


def _csv(given: Mapping[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("pseudonym", "stands_for"))
    writer.writerows((name, as_text(own)) for name, own in sorted(given.items()))
    return text.getvalue()
