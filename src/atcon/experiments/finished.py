"""Use a finished run again: open it, and evaluate its networks."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from atcon import records
from atcon.data import ImageSet, Split, draw_test
from atcon.errors import InputError
from atcon.experiments import summary
from atcon.experiments.config import load_config
from atcon.experiments.folder import RunFolder
from atcon.experiments.judge import Verdicts, judge
from atcon.experiments.progress import Progress
from atcon.experiments.resampling import groups_of, resampled_record, weights_for
from atcon.experiments.sections import RunConfig
from atcon.experiments.setup import fabric_of, size_of, stage_network
from atcon.experiments.sources import image_set_of
from atcon.experiments.tables import write_stage_tables
from atcon.models import Network
from atcon.types import Example

_CHANGEABLE = ("data.root", "data.test_images", "evaluation.", "device", "precision")


@dataclass(frozen=True)
class FinishedRun:
    """A run folder that holds a result.

    Attributes:
        folder: Its paths.
        config: Its configuration, with what was overridden.
        record: Its summary.
    """

    folder: RunFolder
    config: RunConfig
    record: dict[str, Any]

    def network(self, stage: str, fabric: Fabric) -> Network:
        """Build the network with the weights that a stage selected.

        Raises:
            InputError: The run has no such stage.
        """
        if stage not in self.record["stages"]:
            known = ", ".join(self.record["stages"])
            raise InputError(f"{self.folder.root} has no stage {stage!r}: it has {known}")
        return stage_network(self.config, self.folder, len(self.record["classes"]), stage, fabric)


def reopen(run: Path, overrides: Iterable[str] = ()) -> FinishedRun:
    """Open a finished run.

    Raises:
        InputError: It is not one, or an override would change what was trained.
    """
    overrides = list(overrides)
    for override in overrides:
        if not override.startswith(_CHANGEABLE):
            raise InputError(
                f"--set {override}: a finished run takes new values for "
                f"{', '.join(key.rstrip('.') for key in _CHANGEABLE)} only"
            )
    folder = RunFolder(run)
    record = records.read_json(folder.summary)
    return FinishedRun(folder, load_config(str(folder.config), overrides), record)


def evaluate(
    run: Path,
    overrides: Iterable[str] = (),
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate the networks of a finished run again, on its test images or on those of a new root.

    Thresholds stay those that the run fitted on its validation images; nothing in the run folder
    is changed.

    Args:
        run: The run folder.
        overrides: `key=value`, of the keys that do not change what was trained.
        out: A new folder for predictions, localisation and `evaluation.json`; None writes nothing.
        progress: Told about every batch.
    """
    opened = reopen(run, overrides)
    if out is not None:
        records.check_new(out)
    config, record = opened.config, opened.record
    image_set = image_set_of(config.data, progress)
    if list(image_set.classes) != record["classes"]:
        raise InputError(
            f"{image_set.name} has the classes {list(image_set.classes)}, "
            f"but the run was trained on {record['classes']}"
        )
    fabric = fabric_of(config)
    networks = {stage: opened.network(stage, fabric) for stage in record["stages"]}
    verdicts = judge(
        config,
        image_set,
        _test_examples(opened, image_set),
        networks,
        size=size_of(config, networks["supervised"]),
        layer=record["model"]["layer"],
        fabric=fabric,
        progress=progress or Progress(),
    )
    result = _result(opened, verdicts)
    if out is not None:
        for stage, judged in verdicts.stages.items():
            write_stage_tables(out, stage, judged, verdicts, image_set)
        records.write_json(out / "evaluation.json", result)
    return result


def _result(opened: FinishedRun, verdicts: Verdicts) -> dict[str, Any]:
    config, record = opened.config.evaluation, opened.record
    groups = groups_of((example.name, example.group) for example in verdicts.examples)
    weights = weights_for(len(verdicts.examples), groups, config.resamples, opened.config.seed)
    thresholds = {name: np.array(stage["thresholds"]) for name, stage in record["stages"].items()}
    scores = summary.scores_of(verdicts, thresholds, multi_label=record["multi_label"])
    return {
        "run": str(opened.folder.root),
        "classes": record["classes"],
        "unit": record.get("unit", "images"),
        "level": config.level,
        **resampled_record(groups),
        "counts": {"test": len(verdicts.examples), "skipped": len(verdicts.skipped)},
        "skipped": [{"name": name, "reason": reason} for name, reason in verdicts.skipped],
        "stages": {
            stage: summary.test_record(score, weights, config.level, record["classes"])
            for stage, score in scores.items()
        },
        "gain": summary.gain_record(
            scores["consistency"], scores["supervised"], weights, config.level
        ),
        "floors": summary.floor_record(verdicts.stages["supervised"]),
    }


def _test_examples(opened: FinishedRun, image_set: ImageSet) -> tuple[Example, ...]:
    """The run's own test images; all where the data lies at another root, unless told how many."""
    original, data = load_config(str(opened.folder.config)).data, opened.config.data
    if data.test_images != original.test_images:
        return draw_test(image_set, data.test_images, opened.config.seed)
    if data != original:
        return image_set.test
    record = records.read_json(opened.folder.split)
    return Split.from_record(record, image_set).test
