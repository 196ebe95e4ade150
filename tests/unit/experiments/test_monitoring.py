"""The losses of table 4, watched while a supervised stage trains."""

import numpy as np
import pytest
import torch
from pipeline import tiny, without_seconds
from torch.nn import functional

from atcon.consistency import CORRELATIONS, MONITORED, ConsistencyLoss
from atcon.data import Reader, load
from atcon.errors import InputError
from atcon.experiments.bench import inputs_of
from atcon.experiments.cell_record import agreement_of, cell_record
from atcon.experiments.folder import RunFolder
from atcon.experiments.monitoring import series_of
from atcon.experiments.parts import split_of
from atcon.experiments.run import run
from atcon.experiments.setup import size_of
from atcon.experiments.sources import image_set_of, network_of
from atcon.models import load_weights
from atcon.records import read_csv, read_lines
from atcon.training import generator_of

PLAIN = ("consistency.epochs=1", "evaluation.gallery=0", "evaluation.consistency_images=10")
WATCHED = (*PLAIN, "supervised.monitored_images=6")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run that watches the losses, and the same that does not."""
    root = tmp_path_factory.mktemp("monitored")
    run(tiny(*WATCHED), root / "watched")
    run(tiny(*PLAIN), root / "plain")
    return root


def _supervised(folder):
    return [line for line in read_lines(folder / "metrics.jsonl") if line["stage"] == "supervised"]


def test_watching_changes_nothing_else(runs):
    for line, plain in zip(_supervised(runs / "watched"), _supervised(runs / "plain"), strict=True):
        known = {key: line["validation"][key] for key in ("map", "f1")}
        assert len(line["validation"]) == 2 + 1 + 12
        assert without_seconds({**line, "validation": known}) == without_seconds(plain)
    for name in ("predictions/supervised.csv", "predictions/consistency.csv", "split.json"):
        assert (runs / "watched" / name).read_bytes() == (runs / "plain" / name).read_bytes()
    assert "monitored" not in cell_record(RunFolder(runs / "plain"))


def test_the_record_holds_what_the_network_of_an_epoch_gives_when_it_is_asked_again(runs):
    config, folder = tiny(*WATCHED), RunFolder(runs / "watched")
    image_set = image_set_of(config.data)
    network = network_of(config, len(image_set.classes))
    reader = Reader(image_set, size_of(config, network))
    validation = load(reader, split_of(config, reader).validation, "error")
    load_weights(network.module, folder.weights("supervised"))
    record = cell_record(folder)
    found, epoch = record["monitored"], record["stages"]["supervised"]["epoch"]
    assert found["epochs"] == "1 2"
    device = torch.device("cpu")
    with torch.no_grad():
        logits = network.module.eval()(inputs_of(validation.pixels, network, device))
    expected = functional.binary_cross_entropy_with_logits(logits, validation.labels)
    assert series_of(found["cross_entropy"])[int(epoch) - 1] == pytest.approx(
        float(expected), rel=1e-5
    )
    drawn = torch.randperm(20, generator=generator_of(config.seed, "monitored"))[:6]
    images = inputs_of(validation.pixels[drawn], network, device)
    assert list(found["losses"]) == list(MONITORED)
    for matching, by_correlation in found["losses"].items():
        assert list(by_correlation) == list(CORRELATIONS)
        for correlation, text in by_correlation.items():
            loss = ConsistencyLoss(
                network.module,
                preset="default",
                mask="reference",
                matching=matching,
                correlation=correlation,
            )
            own = -float(loss.compare(images).correlation.mean())
            assert series_of(text)[int(epoch) - 1] == pytest.approx(own, abs=2e-6), matching


def test_a_record_holds_the_consistency_of_every_image_that_was_measured(runs):
    record = cell_record(RunFolder(runs / "watched"))
    measured = 0
    for stage in ("supervised", "consistency", "uniform"):
        entry = record["stages"][stage]
        entry = record["stages"].get(entry.get("same_as"), entry)
        rows = read_csv(runs / f"watched/localisation/{stage}.csv")
        rows.sort(key=lambda row: row["name"])
        expected = [float(row["correlation"] or "nan") for row in rows]
        np.testing.assert_allclose(agreement_of(entry["agreement"]), expected, atol=6e-7)
        measured = np.isfinite(expected).sum()
    assert measured == 10
    assert "groups" not in record


def test_a_value_that_is_not_known_is_a_dash_in_a_series():
    np.testing.assert_array_equal(series_of("1 - -0.25"), [1, np.nan, -0.25])


def test_without_validation_images_there_is_nothing_to_watch_on(tmp_path):
    config = tiny(*WATCHED, "data.validation_images=0")
    with pytest.raises(InputError, match=r"set data\.validation_images"):
        run(config, tmp_path / "run")
