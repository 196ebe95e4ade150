"""What every network said about every test image, as tables."""

from pathlib import Path

import numpy as np

from atcon import records
from atcon.data import ImageSet
from atcon.evaluation import Localisation, predict
from atcon.experiments.compare_records import PLACES
from atcon.experiments.judge import Judged, Verdicts


def write_stage_tables(
    root: Path, stage: str, judged: Judged, verdicts: Verdicts, image_set: ImageSet
) -> None:
    """Write `predictions/STAGE.csv` and `localisation/STAGE.csv`."""
    classes = image_set.classes
    predicted = predict(judged.probabilities, multi_label=image_set.multi_label)
    said, placed = [], []
    for row, example in enumerate(verdicts.examples):
        top = int(judged.top[row])
        chosen = [classes[index] for index in predicted[row].nonzero()[0]]
        truth = [classes[index] for index in example.labels]
        numbers = [f"{value:.12g}" for value in judged.probabilities[row]]  # no new ties
        said.append([example.name, ";".join(truth), ";".join(chosen), *numbers])
        place = judged.places[row]
        where = ["", ""] if place is None else [f"{place.iou:.6f}", f"{place.epg:.6f}"]
        more = ["", "", ""] if place is None else _more(place)
        agreement = [
            "" if np.isnan(value) else f"{value:.6f}"
            for value in (judged.correlation[row], judged.contrast[row])
        ]
        correct = int(top in example.labels)
        placed.append([example.name, classes[top], correct, *where, *agreement, *more])
    columns = ["name", "labels", "predicted", *classes]
    records.write_csv(root / "predictions" / f"{stage}.csv", columns, said)
    columns = ["name", "class", "correct", *PLACES]
    records.write_csv(root / "localisation" / f"{stage}.csv", columns, placed)


def _more(place: Localisation) -> list[str]:
    """The cells of `LATER`."""
    boxes = ";".join(f"{value:.6f}" for value in place.box_ious)
    return [f"{place.iou_reference:.6f}", f"{place.pointing:.6f}", boxes]
