import shutil

import numpy as np
import pytest

from atcon.experiments.cell_record import cell_record, values_on_resamples
from atcon.experiments.folder import RunFolder


def test_a_record_does_not_depend_on_the_order_in_which_the_images_were_judged(
    finished_run, tmp_path
):
    turned = tmp_path / "turned"
    shutil.copytree(finished_run, turned)
    for path in [*turned.glob("predictions/*.csv"), *turned.glob("localisation/*.csv")]:
        head, *rows = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([head, *reversed(rows)]) + "\n", encoding="utf-8")
    assert cell_record(RunFolder(turned)) == cell_record(RunFolder(finished_run))


def test_the_mean_of_f1_over_the_classes_is_f1_on_every_resample(finished_run):
    entry = cell_record(RunFolder(finished_run))["stages"]["supervised"]
    by_class = [values_on_resamples(text) for text in entry["per_class_resampled"].values()]
    assert list(entry["per_class_resampled"]) == list(entry["per_class"])
    np.testing.assert_allclose(
        np.mean(by_class, axis=0), values_on_resamples(entry["resampled"]["f1"]), atol=1.01e-4
    )
    points = list(entry["per_class"].values())
    assert np.mean(points) == pytest.approx(entry["test"]["f1"], abs=1e-3)
