"""`atcon list WHAT`: the tables of names that the library, the configurations and the CLI share."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from atcon.cli.configs import list_configs
from atcon.errors import no_such

_GRIDS = {"layer": "cells", "input": "pixels", "tokens": "tokens"}


def list_table(
    table: Annotated[
        str,
        typer.Argument(
            help="configs, maps, matchings, correlations, masks, presets, strategies, baselines, "
            "stopping or rates."
        ),
    ] = "configs",
) -> None:
    """List the shipped configurations, or the names of another table."""
    if table not in TABLES:
        raise no_such("table", table, TABLES)
    TABLES[table]()


def _maps() -> None:
    from atcon.attention import ATTENTION  # noqa: PLC0415

    _show(
        ("name", "map", "grid", "signed", "trains", "source"),
        (
            (
                name,
                entry.title,
                _GRIDS[entry.resolution],
                "yes" if entry.signed else "no",
                "yes" if entry.differentiable else "no",
                entry.source,
            )
            for name, entry in ATTENTION.items()
        ),
    )


def _matchings() -> None:
    from atcon.consistency.matching import MATCHINGS  # noqa: PLC0415

    _show(
        ("name", "by", "maps"),
        (
            (
                name,
                f"{entry.pooling} {entry.by}" if entry.by == "pool" else entry.by,
                ", ".join(entry.maps or ("any",)),
            )
            for name, entry in MATCHINGS.items()
        ),
    )


def _correlations() -> None:
    from atcon.consistency.correlation import CORRELATIONS  # noqa: PLC0415

    _show(("name", "value"), ((name, _first_line(h)) for name, h in CORRELATIONS.items()))


def _masks() -> None:
    from atcon.consistency.masks import MASKS  # noqa: PLC0415

    _show(("name", "mask"), ((name, _first_line(mask)) for name, mask in MASKS.items()))


def _presets() -> None:
    from atcon.consistency import PRESETS  # noqa: PLC0415

    _show(
        ("name", "mask", "detached", "correlation", "squashed", "layer"),
        (
            (
                name,
                str(preset.mask),
                "yes" if preset.detach_mask else "no",
                str(preset.correlation),
                "yes" if preset.squash else "no",
                preset.layer,
            )
            for name, preset in PRESETS.items()
        ),
    )


def _strategies() -> None:
    from atcon.training import STRATEGIES  # noqa: PLC0415

    _show(("name", "every step"), STRATEGIES.items())


def _baselines() -> None:
    from atcon.experiments.arms import BASELINES  # noqa: PLC0415

    _show(
        ("name", "arm", "starts from", "what it does"),
        (
            (name, arm.title, arm.start or "the weights as they came", _first_line(arm.plan))
            for name, arm in BASELINES.items()
        ),
    )


def _stopping() -> None:
    from atcon.training import STOPPING_RULES  # noqa: PLC0415

    _show(("name", "stops"), ((name, rule.title) for name, rule in STOPPING_RULES.items()))


def _rates() -> None:
    from atcon.training import RATES  # noqa: PLC0415

    _show(("name", "rate"), ((name, _first_line(rate)) for name, rate in RATES.items()))


TABLES: dict[str, Callable[[], None]] = {
    "configs": list_configs,
    "maps": _maps,
    "matchings": _matchings,
    "correlations": _correlations,
    "masks": _masks,
    "presets": _presets,
    "strategies": _strategies,
    "baselines": _baselines,
    "stopping": _stopping,
    "rates": _rates,
}


def _first_line(documented: Any) -> str:
    return str(documented.__doc__).splitlines()[0]


def _show(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print columns as wide as they need, without a frame, so that `grep` and `cut` serve."""
    lines = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())
