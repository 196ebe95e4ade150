"""The copy of a run folder: its small records without a name, a path, weights or file hashes."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

import atcon
from atcon import records
from atcon.errors import InputError
from atcon.experiments.folder import RunFolder
from atcon.report import write_report, write_run_figures
from atcon.sharing.hidden import (
    hidden_gallery,
    hidden_split,
    hidden_table,
    hidden_values,
    known_names,
)
from atcon.sharing.pseudonyms import DIGITS, Pseudonyms
from atcon.sharing.settings import hidden_config, hidden_environment

MARK = "shared.json"
"""Marks a folder as a copy whose names are pseudonyms."""


def share(run: Path, out: Path, names: Pseudonyms, *, images: bool = False) -> Path:
    """Write a copy of a finished run in which names are pseudonyms, with its report.

    Args:
        run: The run folder.
        out: A new folder.
        names: Their key's owner alone can tell what they stand for.
        images: Whether the gallery's pictures are in it; what is written in them is not replaced.

    Returns:
        `out`.

    Raises:
        InputError: `out` exists, or the run is unfinished, damaged, or itself such a copy.
    """
    records.check_new(out)
    if (run / MARK).exists():
        raise InputError(f"{run} is a shared copy: its names are pseudonyms already")
    with records.whole_folder(out) as copy:
        _copy(run, copy, names, images=images)
        write_report(copy, images=images)
    return out


def write_shared_report(
    run: Path,
    target: Path | None,
    names: Pseudonyms,
    *,
    images: bool = True,
    figures: Path | None = None,
) -> Path:
    """Draw the report of a run with pseudonyms as `target`, by default `run/report.html`.

    Args:
        run: The run folder.
        target: The file to write.
        names: Their key's owner alone can tell what they stand for.
        images: Whether pictures of images are shown.
        figures: A new folder for the figures as files; none are written without it.

    Raises:
        InputError: As for `share`.
    """
    target = target or run / "report.html"
    with TemporaryDirectory() as place:
        copy = share(run, Path(place) / "copy", names, images=images)
        records.write_text(target, (copy / "report.html").read_text(encoding="utf-8"))
        if figures is not None:
            write_run_figures(copy, figures, images=images)
    return target


def check_apart(private: Path, *folders: Path) -> None:
    """Hold that what is for the owner alone does not lie in a folder that is handed on.

    Raises:
        InputError: It does.
    """
    for folder in folders:
        if private.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{private} would lie in {folder}, and go with it: choose a place outside"
            )


def _copy(run: Path, copy: Path, names: Pseudonyms, *, images: bool) -> None:
    source, target = RunFolder(run), RunFolder(copy)
    summary, split = records.read_json(source.summary), records.read_json(source.split)
    names = names.of("clip" if summary.get("unit") == "clips" else "image")
    with _understood(source.split):
        known = known_names(split, names)
        records.write_json(target.split, hidden_split(split, names))
        classes = [str(name) for name in split["classes"]]
    records.write_json(target.summary, hidden_values(summary, known))
    records.write_lines(
        target.metrics, (hidden_values(line, known) for line in records.read_lines(source.metrics))
    )
    _copy_settings(source, target, names)
    for kind in ("predictions", "localisation"):
        for path in sorted((run / kind).glob("*.csv")):
            _copy_table(path, copy / kind / path.name, classes, names)
    if images and (run / "gallery" / "index.json").exists():
        _copy_gallery(run / "gallery", copy / "gallery", names, known)
    records.write_json(copy / MARK, _mark(names, images=images))


def _copy_settings(source: RunFolder, target: RunFolder, names: Pseudonyms) -> None:
    with _understood(source.config):
        text = source.config.read_text(encoding="utf-8")
        records.write_text(target.config, hidden_config(text, names))
    machine = source.root / "environment.json"
    if machine.exists():
        records.write_json(
            target.root / machine.name, hidden_environment(records.read_json(machine))
        )


def _copy_table(path: Path, target: Path, classes: Sequence[str], names: Pseudonyms) -> None:
    with _understood(path):
        header, *hidden = hidden_table(records.read_table(path), classes, names)
        records.write_csv(target, header, hidden)


def _copy_gallery(folder: Path, copy: Path, names: Pseudonyms, known: dict[str, str]) -> None:
    path = folder / "index.json"
    index = records.read_json(path)
    with _understood(path):
        hidden, files = hidden_gallery(index, names, known)
    records.write_json(copy / path.name, hidden)
    for file, other in files.items():
        shutil.copyfile(folder / Path(file).name, copy / other)


def _mark(names: Pseudonyms, *, images: bool) -> dict[str, object]:
    return {
        "atcon": atcon.__version__,
        "pseudonyms": f"HMAC-SHA256, its first {DIGITS} hexadecimal digits",
        "key": names.key_id,
        "images": images,
        "sha256": "keyed in the same way: equal for equal files, no hash of a file",
        "order": "that of the pseudonyms",
        "left_out": [
            "checkpoints",
            "paths",
            "names of the machine",
            *([] if images else ["gallery"]),
        ],
    }


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Name the record that is not built as a run builds it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not the record of a finished run ({error!r})") from error
