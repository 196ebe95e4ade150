"""The page: records in, one self-contained HTML file out."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from atcon.records import write_text
from atcon.report import facts, figures, gallery, tables
from atcon.report.inputs import OUTCOMES, Run, dig, dig_list, dig_number, read_run
from atcon.report.page import asset, environment_of
from atcon.report.wording import unit_of


def write_report(run: Path, target: Path | None = None, *, images: bool = True) -> Path:
    """Draw the records of a run as one page and return its path.

    Args:
        run: The run folder.
        target: The file to write; by default `run/report.html`.
        images: Whether it shows the gallery, which is all that has pictures of images.

    Raises:
        InputError: The summary is missing, or a record is not in the known format.
    """
    run = Path(run)
    target = target or run / "report.html"
    write_text(target, render(read_run(run), images=images))
    return target


def render(run: Run, *, images: bool = True) -> str:
    """Return the page; equal records give equal text."""
    template = environment_of(unit_of(run.summary)).get_template("report.html.j2")
    page = template.render(**_context(run, images))
    return page.encode("utf-8", "replace").decode("utf-8")


def _context(run: Run, images: bool) -> dict[str, Any]:
    if not images:
        run = replace(run, gallery={})
    summary = run.summary
    script = asset("report.js")
    return {
        "name": str(dig(summary, "name") or run.folder.name),
        "classes": [str(name) for name in dig_list(summary, "classes")],
        "outcome": dig(summary, "verdict", "outcome"),
        "badge": OUTCOMES[dig(summary, "verdict", "outcome")],
        "sentence": str(dig(summary, "verdict", "sentence")),
        "reasons": [str(reason) for reason in dig_list(summary, "verdict", "reasons")],
        "level": f"{100 * (dig_number(summary, 'level') or 0.95):.0f} %",
        "resamples": dig_number(summary, "resamples"),
        "groups": dig_number(summary, "test_groups"),
        "version": dig(summary, "atcon"),
        "seed": dig(summary, "seed"),
        "facts": facts.facts(run),
        "key_figures": tables.key_figures(summary),
        "metrics": tables.metric_rows(summary),
        "gains": figures.gain_plot(summary),
        "controls": tables.control_rows(summary),
        "arms": tables.arm_rows(summary),
        "floors": tables.floor_rows(summary),
        "per_class": tables.class_rows(summary),
        "lengths": tables.length_rows(summary),
        "curves": figures.curves(run),
        "scatter": figures.scatter(run),
        "cards": gallery.cards(run),
        "clips": dig(summary, "clip") is not None,
        "primary": dig(summary, "primary"),
        "images": images,
        "samples": unit_of(summary),
        "sample": unit_of(summary).removesuffix("s"),
        "pseudonyms": bool(run.shared),
        "skipped": facts.skipped(run.split),
        "config": run.config,
        "machine": facts.machine(run.environment),
        "style": asset("report.css"),
        "script": script,
        "script_hash": _digest(script),
    }


def _digest(script: str) -> str:
    """Return what the page's policy needs to let this script, and no other, run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
