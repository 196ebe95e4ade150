"""The engine of this process: one cell after the other."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from atcon import records
from atcon.errors import AtconError
from atcon.experiments.cell_record import cell_record
from atcon.experiments.config import dump_config
from atcon.experiments.folder import RunFolder
from atcon.experiments.grid import Cell, Experiment, check_record, fingerprint, record_path
from atcon.experiments.progress import Progress
from atcon.experiments.run import run
from atcon.experiments.sections import RunConfig


def run_cells(
    experiment: Experiment,
    cells: Iterable[Cell],
    *,
    out: Path,
    results: Path,
    overrides: Sequence[str] = (),
    keep_weights: bool = False,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Compute the cells that have no record yet; one that was cut short is continued.

    A cell is a run in `out/NAME/CELL`; its record, `results/NAME/CELL.json`, is small and marks it
    as done, so that the records alone let another machine go on. The weights are removed after it
    unless they are asked for. A cell that fails is passed over.

    Returns:
        What failed, by cell, with the reason.

    Raises:
        InputError: The configuration is wrong, or a record is of another one.
    """
    progress, failed = progress or Progress(), {}
    configs = {cell: experiment.run_config(cell, overrides) for cell in cells}
    for cell, config in configs.items():
        record = record_path(results, experiment, cell)
        if record.exists():
            check_record(record, config)
            progress.note(f"{cell.name}: finished already")
            continue
        progress.note(f"{experiment.name}, {cell.name}")
        folder = RunFolder(out / experiment.name / cell.name)
        try:
            content = _run_cell(config, folder, progress)
        except AtconError as error:
            failed[cell.name] = str(error)
            progress.note(f"{cell.name} failed: {error}")
            continue
        head = {"experiment": experiment.name, "cell": cell.name}
        records.write_json(record, {**head, "configuration": fingerprint(config), **content})
        if not keep_weights:
            shutil.rmtree(folder.root / "checkpoints", ignore_errors=True)
    return failed


def _run_cell(config: RunConfig, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """Run or finish a cell, unless it is done, and give its record."""
    if folder.summary.exists():
        folder.check_configuration(dump_config(config))
    else:
        run(config, folder.root, resume=folder.config.exists(), progress=progress)
    return cell_record(folder)
