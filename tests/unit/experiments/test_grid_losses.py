"""Table 4 and the supplement's scatter, from records made by hand."""

import numpy as np
import pytest
from grid_records import cell_of, small_experiment

from atcon.consistency import CORRELATIONS, MONITORED
from atcon.errors import InputError
from atcon.evaluation import correlation_over_runs
from atcon.experiments.grid import Cell
from atcon.experiments.grid_losses import losses_of, matchings_tables
from atcon.experiments.grid_page import page_of
from atcon.experiments.grid_scatter import scatter_of, scatter_table
from atcon.experiments.grid_tables import matchings_table, scatter_tables
from atcon.experiments.paper import paper_facts

EPOCHS, IMAGES = 40, 60
GAIN = {"consistency": 0.02, "uniform": 0.01}


def text(values):
    return " ".join(f"{value:.8g}" for value in values)


def monitored(seed):
    """One loss is the supervised one with noise, one its mirror image, all others are noise."""
    random = np.random.default_rng(seed)
    target = np.exp(-np.arange(EPOCHS) / 8) + 0.01 * random.standard_normal(EPOCHS)
    losses = {row: {h: random.standard_normal(EPOCHS) for h in CORRELATIONS} for row in MONITORED}
    losses["guided_backprop_mask"]["pearson"] = 0.1 * target - 0.9
    losses["grad_cam_mask"]["pearson"] = -target + 0.1 * random.standard_normal(EPOCHS)
    losses["grad_cam_mask"]["ssim"] = np.full(EPOCHS, -1.0)
    return {
        "epochs": text(range(1, EPOCHS + 1)),
        "cross_entropy": text(target),
        "losses": {
            row: {h: text(series) for h, series in line.items()} for row, line in losses.items()
        },
    }


def with_agreement(record, *, spread=1.0, groups=False):
    """Noise of its own in every measurement; after the stage all have the gain more."""
    random = np.random.default_rng(record["seed"])
    image = np.random.default_rng(99).normal(0, 0.01, IMAGES)
    for stage in ("supervised", *GAIN):
        own = spread if stage == "consistency" else 1.0
        noise = random.normal(0, 0.01, IMAGES)
        values = 0.9 + GAIN.get(stage, 0) + own * (image + noise)
        measured = [str(round(1e6 * value)) for value in values]
        record["stages"][stage]["agreement"] = " ".join(["-", *measured])
    if groups:
        record["groups"] = " ".join(str(index // 2) for index in range(IMAGES + 1))
    return record


@pytest.fixture(scope="module")
def watched():
    return [{**cell_of(4, seed), "monitored": monitored(seed)} for seed in range(4)]


def cell(table, row, column):
    return table["cells"][table["rows"].index(row)][table["columns"].index(column)]


def test_the_papers_table_has_our_rows_and_columns():
    assert sorted(paper_facts()["table4_ablation"]["rows"]) == sorted(MONITORED)
    assert all(
        sorted(line) == sorted(CORRELATIONS)
        for line in paper_facts()["table4_ablation"]["rows"].values()
    )


def test_a_loss_that_falls_with_the_supervised_one_has_a_positive_correlation(watched):
    table = losses_of(watched)
    ours, against = (
        cell(table, row, "pearson") for row in ("guided_backprop_mask", "grad_cam_mask")
    )
    assert ours["value"] == pytest.approx(1, abs=1e-3)
    assert against["high"] < -0.8
    assert against["low"] < against["value"] < against["high"]
    assert (ours["paper"], against["paper"]) == (0.826, -0.519)
    noise = cell(table, "grad_cam_upsampled", "ssim")
    assert noise["low"] < 0 < noise["high"]


def test_what_is_constant_has_no_correlation_and_is_shown_as_a_dash(watched):
    assert cell(losses_of(watched), "grad_cam_mask", "ssim")["value"] is None
    (_, *rows), _ = matchings_tables(watched, 4)
    assert rows[-1][-1] == "–"


def test_the_mean_is_over_seeds_with_fishers_z_and_one_seed_has_its_own_interval(watched):
    values = []
    for record in watched:
        own = record["monitored"]
        series = [own["losses"]["grad_cam_mask"]["pearson"], own["cross_entropy"]]
        values.append(np.corrcoef([[float(v) for v in one.split()] for one in series])[0, 1])
    expected = correlation_over_runs(values)
    found = cell(losses_of(watched), "grad_cam_mask", "pearson")
    assert found["value"] == pytest.approx(expected.value, abs=1e-4)
    assert found["low"] == pytest.approx(expected.low, abs=1e-4)
    alone = cell(losses_of(watched[:1]), "grad_cam_mask", "pearson")
    assert alone["value"] == pytest.approx(values[0], abs=1e-4)
    assert alone["low"] < alone["value"] < alone["high"]


def test_the_changes_have_lost_the_common_trend(watched):
    changed = losses_of(watched, of_changes=True)
    trend = cell(losses_of(watched), "grad_cam_mask", "pearson")
    assert abs(cell(changed, "grad_cam_mask", "pearson")["value"]) < abs(trend["value"]) / 2
    assert all(one["paper"] is None for line in changed["cells"] for one in line)


def test_the_table_shows_the_paper_beside_ours(watched):
    drawn = matchings_table({Cell(4, record["seed"]): record for record in watched})
    assert "N = 4, 40 epochs" in drawn
    own, of_changes = (
        line for line in drawn.splitlines() if line.startswith("| guided_backprop_mask | 100.0")
    )
    assert "paper 82.6" in own
    assert "paper 26.7" in own
    assert "paper" not in of_changes


def test_cells_that_were_not_monitored_are_named(watched):
    records = [*watched, cell_of(4, 9)]
    assert losses_of(records) is None
    with pytest.raises(InputError, match=r"n4-seed-9.*supervised\.monitored_images"):
        matchings_tables(records, 4)


def test_the_scatter_holds_every_measured_image_of_all_cells():
    records = [with_agreement(cell_of(2, seed)) for seed in range(3)]
    points = scatter_of(records)
    assert list(points) == ["consistency", "uniform"]
    assert all(len(own) == 3 * IMAGES for own in points.values())
    for stage, gain in GAIN.items():
        assert np.mean([y for _, y in points[stage]]) == pytest.approx(gain, abs=3e-3)
    twin = records[0]["stages"]["uniform"]
    twin.pop("agreement")
    twin["same_as"] = "supervised"
    assert all(y == 0 for _, y in scatter_of(records[:1])["uniform"])


def numbers(said):
    value, _, ends = said.replace("−", "-").partition(" (")
    low, high = ends.rstrip(")").split(" to ")
    return float(value), float(low), float(high)


@pytest.mark.parametrize("groups", [False, True])
def test_noise_alone_gives_a_slope_on_the_start_and_none_on_the_mean_of_both(groups):
    records = [with_agreement(cell_of(2, seed), groups=groups) for seed in range(3)]
    heads, ours, control, between = scatter_table(records, 2)
    assert [row[0] for row in (ours, control, between)] == [
        "ours", "uniform mask", "ours − uniform mask",
    ]  # fmt: skip
    found = {head: numbers(said) for head, said in zip(heads[1:], ours[1:], strict=True)}
    assert found["mean gain"][0] == pytest.approx(0.02, abs=3e-3)
    slope, _, high = found["slope on the start"]
    assert high < 0
    assert slope == pytest.approx(found["the same by regression to the mean"][0], abs=0.15)
    _, low, high = found["slope on the mean of before and after"]
    assert low < 0 < high
    assert numbers(between[1])[0] == pytest.approx(0.01, abs=4e-3)


def test_where_the_low_gain_more_the_slope_on_the_mean_says_so():
    records = [with_agreement(cell_of(2, seed), spread=0.4) for seed in range(3)]
    _, ours, control, _ = scatter_table(records, 2)
    assert numbers(ours[4])[2] < 0
    assert numbers(control[4])[1] < 0 < numbers(control[4])[2]
    drawn = scatter_tables({Cell(2, record["seed"]): record for record in records})
    assert "slope on the mean of before and after" in drawn


def test_records_of_before_are_read_and_named_where_the_images_are_needed():
    assert scatter_of([cell_of(2, 0)]) is None
    with pytest.raises(InputError, match=r"n2-seed-0.*compute the cell anew"):
        scatter_table([cell_of(2, 0)], 2)


def test_the_page_of_an_experiment_has_both_where_they_were_recorded(tmp_path, watched):
    experiment = small_experiment(tmp_path)
    records = {Cell(4, record["seed"]): with_agreement(record) for record in watched[:3]}
    page = page_of(experiment, records)
    assert page["losses"]["rows"] == list(MONITORED)
    assert len(page["agreement"]["consistency"]) == 3 * IMAGES
    plain = page_of(experiment, {Cell(2, 0): cell_of(2, 0)})
    assert plain["losses"] is plain["agreement"] is None
