import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from atcon.errors import InputError
from atcon.experiments.regret import (
    COLUMNS,
    GRIDS,
    Cell,
    over_seeds,
    regret_of,
    regret_table,
    regrets,
    trained_epochs,
    tuned_elsewhere,
)
from atcon.training import Selection
from atcon.training.stopping import STOPPING_RULES, rule_named


def cell(seed, images, validation, held_out, drift=None):
    drift = drift or [0.1 * epoch for epoch in range(len(validation))]
    history = tuple({"drift": value} for value in drift)
    return Cell(seed, images, history, tuple(validation), tuple(held_out))


HAND_MADE = [
    cell(0, 2, (40, 42, 44, 43), (50, 53, 52, 51)),  # best stop: epoch 2
    cell(0, 4, (60, 59, 58, 57), (70, 69, 68, 67)),  # the start
    cell(1, 2, (30, 31, 32, 33), (45, 45, 48, 49)),  # epoch 3
    cell(1, 4, (50, 50, 49, 48), (60, 61, 58, 59.8)),  # epoch 1: as good as the start
]


def random_cells(seeds=4, epochs=9):
    random = np.random.default_rng(0)
    cells = []
    for seed in range(seeds):
        for images in (2, 4, 8):
            true = 50 + np.cumsum(random.normal(0, 1, epochs))
            noisy = true + random.normal(0, 0.3, (2, epochs))
            drift = np.cumsum(random.uniform(0, 0.01, epochs))
            cells.append(cell(seed, images, noisy[0], noisy[1], drift=list(drift - drift[0])))
    return cells


def test_the_best_stop_is_the_one_that_the_training_loop_selects():
    model = nn.Linear(1, 1)
    for one in [*HAND_MADE, *random_cells()]:
        selection = Selection("map")
        for epoch, value in enumerate(one.validation):
            selection.consider(epoch, {"map": value}, model)
        assert one.best == selection.epoch
    assert [one.best for one in HAND_MADE] == [2, 0, 3, 1]


def test_the_regret_of_an_oracle_is_zero():
    cells = random_cells()
    row = regret_of("oracle", lambda one: rule_named("fixed", epoch=one.best), cells)
    assert row.held_out.value == row.held_out.low == row.held_out.high == 0
    assert row.validation.value == 0
    reference = regrets(cells, {}, {})[0]
    assert (reference.rule, reference.epochs) == ("validation labels", row.epochs)
    assert reference.gain == row.gain
    assert reference.held_out == row.held_out


def test_regret_on_a_hand_made_example():
    row = regret_of("fixed", lambda _: rule_named("fixed", epoch=1), HAND_MADE)
    assert row.epochs == (1, 1, 1, 1)
    # held-out: 52 - 53, 70 - 69, 49 - 45, 61 - 61; by seed (0, 2)
    assert row.held_out.value == pytest.approx(1)
    # validation: 44 - 42, 60 - 59, 33 - 31, 50 - 50; by seed (1.5, 1)
    assert row.validation.value == pytest.approx(1.25)
    # against the start: +3, -1, 0, +1; by seed (1, 0.5)
    assert row.gain.value == pytest.approx(0.75)
    assert (row.worst, row.safe, row.harmed, row.starts) == (-1, False, 0.25, 0)
    assert row.trained == 1


def test_keeping_the_start_costs_what_the_labels_would_have_earned():
    rows = {row.rule: row for row in regrets(HAND_MADE, grids={})}
    start, labels = rows["start"], rows["validation labels"]
    assert start.held_out.value == pytest.approx(labels.gain.value)
    assert (start.worst, start.safe, start.harmed, start.starts, start.trained) == (
        0,
        True,
        0,
        1,
        0,
    )
    assert labels.starts == 0.25
    assert rows["last"].epochs == (3, 3, 3, 3)
    assert rows["last"].trained == 3


def test_every_regret_is_the_gain_of_the_labels_minus_the_gain_of_the_rule():
    labels, *rows = regrets(random_cells())
    for row in rows:
        assert row.held_out.value == pytest.approx(labels.gain.value - row.gain.value)
        assert row.validation.value >= 0


def test_half_a_point_below_the_start_is_still_safe():
    cells = [cell(seed, 2, (50, 49), (60, 59.5)) for seed in (0, 1)]
    assert regret_of("last", lambda _: rule_named("last"), cells).safe
    worse = [*cells, cell(2, 2, (50, 49), (60, 59.4))]
    row = regret_of("last", lambda _: rule_named("last"), worse)
    assert not row.safe
    assert row.harmed == pytest.approx(1 / 3)


def test_the_interval_is_students_over_the_seeds_means():
    values = [1.0, 2.0, 0.0, 5.0]
    found = over_seeds(HAND_MADE, values)
    low, high = stats.t.interval(0.95, 1, loc=2.0, scale=stats.sem([1.5, 2.5]))
    assert (found.value, found.low, found.high) == pytest.approx((2.0, low, high))


def test_the_order_of_the_cells_does_not_matter():
    cells = random_cells()
    for row, shuffled in zip(regrets(cells), regrets(cells[::-1]), strict=True):
        assert shuffled.epochs == row.epochs[::-1]
        assert shuffled.held_out.value == pytest.approx(row.held_out.value)
        assert (shuffled.worst, shuffled.starts) == (row.worst, row.starts)


def best_fixed(cells, epochs):
    """The fixed epoch of the largest mean validation mAP, written out."""
    means = {epoch: np.mean([one.validation[epoch] for one in cells]) for epoch in epochs}
    return max(epochs, key=means.__getitem__)


def test_parameters_are_those_that_are_best_on_the_other_seeds():
    cells, epochs = random_cells(), (3, 1, 2, 5, 8)
    choose = tuned_elsewhere(rule_named("fixed"), {"epoch": epochs}, cells)
    chosen = set()
    for one in cells:
        others = [other for other in cells if other.seed != one.seed]
        assert choose(one).parameters == {"epoch": best_fixed(others, epochs)}
        chosen.add(best_fixed(others, epochs))
    assert len(chosen) > 1


@pytest.mark.parametrize("name", GRIDS)
def test_no_label_of_its_own_seed_and_no_held_out_image_chooses_a_parameter(name):
    cells = random_cells()
    before = tuned_elsewhere(rule_named(name), GRIDS[name], cells)
    random = np.random.default_rng(1)
    changed = [
        replace(
            one,
            validation=tuple(random.uniform(0, 100, 9)) if one.seed == 2 else one.validation,
            held_out=tuple(random.uniform(0, 100, 9)),
        )
        for one in cells
    ]
    after = tuned_elsewhere(rule_named(name), GRIDS[name], changed)
    for one in cells:
        if one.seed == 2:
            assert after(one).parameters == before(one).parameters


def test_the_labels_of_other_seeds_do_choose():
    lows = [cell(seed, 2, (50, 51, 49), (50, 51, 49)) for seed in range(3)]
    highs = [cell(seed, 2, (50, 51, 59), (50, 51, 59)) for seed in range(3)]
    grid = {"limit": (0.0, 0.1, 0.2)}
    rule = rule_named("drift_budget")
    assert tuned_elsewhere(rule, grid, lows)(lows[0]).parameters["limit"] == 0.1
    assert tuned_elsewhere(rule, grid, highs)(highs[0]).parameters["limit"] == 0.2
    mixed = [lows[0], *highs[1:]]
    assert tuned_elsewhere(rule, grid, mixed)(mixed[0]).parameters["limit"] == 0.2


def test_of_equally_good_parameters_the_first_of_the_grid_is_taken():
    flat = [cell(seed, 2, (50, 50, 50), (50, 50, 50)) for seed in range(3)]
    for name, grid in GRIDS.items():
        chosen = tuned_elsewhere(rule_named(name), grid, flat)(flat[0])
        assert chosen.parameters == {
            **rule_named(name).parameters,
            **{key: values[0] for key, values in grid.items()},
        }


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_begins_with_the_defaults(name):
    defaults = STOPPING_RULES[name].parameters
    for key, values in GRIDS[name].items():
        assert values[0] == defaults[key]
        assert len(set(values)) == len(values)


def test_epochs_are_trained_until_the_rule_lets_training_end():
    history = HAND_MADE[0].history
    assert trained_epochs(rule_named("drift_budget", limit=0.15), history) == 2  # 2 is beyond
    assert trained_epochs(rule_named("drift_budget", limit=9), history) == 3
    assert trained_epochs(rule_named("fixed", epoch=2), history) == 2
    assert trained_epochs(rule_named("start"), history) == 0
    assert trained_epochs(rule_named("last"), history[:1]) == 0


def test_the_table_has_a_row_for_every_way_to_stop():
    rows = regrets(random_cells())
    text = regret_table(rows)
    lines = [[part.strip() for part in line.strip("|").split("|")] for line in text.splitlines()]
    assert lines[0] == list(COLUMNS)
    assert {len(line) for line in lines} == {len(COLUMNS)}
    names = [line[0] for line in lines[2:]]
    tuned = [f"{name}, tuned on the other seeds" for name in GRIDS]
    assert names == ["validation labels", *STOPPING_RULES, *tuned]


def test_the_table_says_the_numbers_of_its_row():
    row = regret_of("fixed", lambda _: rule_named("fixed", epoch=1), HAND_MADE)
    cells = [part.strip() for part in regret_table([row]).splitlines()[2].strip("|").split("|")]
    margin = stats.t.ppf(0.975, 1)  # by seed 0 and 2: standard error 1
    assert cells[:2] == ["fixed", "epoch 1"]
    assert cells[2] == f"+1.00 (−{margin - 1:.2f} to +{1 + margin:.2f})"
    assert cells[5:] == ["−1.00", "25%", "0%", "1.0"]
    choose = {0: rule_named("fixed", epoch=1), 1: rule_named("fixed", epoch=3)}
    mixed = regret_of("fixed", lambda one: choose[one.seed], HAND_MADE, tuned=True)
    assert "| fixed, tuned on the other seeds | epoch 1 or 3 |" in regret_table([mixed])


def test_a_regret_can_be_written_as_json():
    row = regret_of("drift_budget", lambda _: rule_named("drift_budget"), HAND_MADE)
    written = json.loads(json.dumps(asdict(row), allow_nan=False))
    assert written["epochs"] == [0, 0, 0, 0]
    assert written["parameters"][0] == {"signal": "drift", "limit": 0.001}


def test_a_cell_is_read_from_a_record():
    epochs = [
        {"signals": {"drift": value}, "validation": 40 + value, "held_out": 50.0}
        for value in (0, 1)
    ]
    found = Cell.of({"seed": 3, "images": 4, "epochs": epochs})
    assert found == Cell(3, 4, ({"drift": 0}, {"drift": 1}), (40.0, 41.0), (50.0, 50.0))
    for broken in ({"seed": 3, "images": 4}, {"seed": 3, "images": 4, "epochs": [{}]}):
        with pytest.raises(InputError, match="but this one gave KeyError"):
            Cell.of(broken)


def test_a_cell_that_cannot_be_judged_is_refused():
    with pytest.raises(InputError, match=r"seed 0, 2 images.*2 signals, 2 validation and 1 held"):
        cell(0, 2, (1, 2), (1,))
    with pytest.raises(InputError, match="seed 0, 2 images per class: a mAP is not finite"):
        cell(0, 2, (1, float("nan")), (1, 2))
    with pytest.raises(InputError, match="0 signals"):
        cell(0, 2, (), ())


def test_one_seed_gives_no_evidence():
    with pytest.raises(InputError, match="two or more"):
        regrets(HAND_MADE[:2])
    with pytest.raises(InputError, match="two or more"):
        tuned_elsewhere(rule_named("fixed"), GRIDS["fixed"], HAND_MADE[:2])


def test_a_grid_of_no_rule_is_refused():
    with pytest.raises(InputError, match="grids for nothing"):
        regrets(HAND_MADE, grids={"nothing": {"limit": (1,)}})


def test_regrets_draw_no_random_numbers():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = regrets(random_cells()), regrets(random_cells())
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
