"""Promise 1: a run that is killed, at any moment, is resumed to the same bits."""

import re
import shutil
import time

import numpy as np
import pytest
import torch
from faults import killed_after, unfinished_writes, watched
from pipeline import content_of, make_folder, without_seconds
from short_runs import SHORT, outcome_of, run_or_resume, short, short_file, states_of

from atcon.experiments.engines.table import run_cells
from atcon.experiments.engines.work import Work
from atcon.experiments.shipped import experiment_of
from atcon.records import read_json, write_text

KILLS = 20
RANDOM = np.random.default_rng(7)
PART = re.compile(r"\.\w+\.part$")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def moments(tmp_path_factory, images):
    """An uninterrupted run, and what lay on the disk before each call that changed something."""
    root = tmp_path_factory.mktemp("uninterrupted")
    found = {}

    def before(_name, _path):
        if not (root / "run").exists():
            return
        files = {PART.sub("", name): one for name, one in content_of(root / "run").items()}
        state = tuple(files.items())
        if state not in found:
            found[state] = root / f"moment-{len(found)}"
            shutil.copytree(root / "run", found[state])

    with watched(root / "run", before):
        run_or_resume(short(images), root / "run")
    return root / "run", list(found.values())


def between_stages(moment):
    return (moment / "checkpoints/supervised.json").exists() and not (
        moment / "checkpoints/last.pt"
    ).exists()


def assert_resumed(moment, expected, images, folder):
    shutil.copytree(moment, folder)
    if (folder / "summary.json").exists():
        return  # killed after the end: nothing is left to do
    run_or_resume(short(images), folder)
    assert outcome_of(folder) == outcome_of(expected), moment.name
    states = states_of(expected)
    assert all(state == states[stage] for stage, state in states_of(folder).items()), moment.name


def test_a_run_killed_in_a_save_or_between_stages_ends_as_if_it_had_not_been(
    moments, images, tmp_path
):
    expected, seen = moments
    saving = [one for one in seen if any("last.pt" in n for n in unfinished_writes(one))]
    between = [one for one in seen if between_stages(one)]
    for number, some in enumerate((saving, between)):
        moment = some[RANDOM.integers(len(some))]
        assert_resumed(moment, expected, images, tmp_path / str(number))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_at_any_change_of_its_folder_ends_as_if_it_had_not_been(
    moments, images, tmp_path
):
    expected, seen = moments
    assert len(seen) > 60
    assert sum(one.endswith(".part") for moment in seen for one in unfinished_writes(moment)) > 30
    for number, moment in enumerate(seen):
        assert_resumed(moment, expected, images, tmp_path / str(number))


def seconds_of(work, *given):
    """Work without a kill; give the seconds, without those of the first start."""
    killed_after(60, time.sleep, 0)
    began = time.monotonic()
    assert not killed_after(200, work, *given)
    return time.monotonic() - began


def run_here(images, folder):
    run_or_resume(short(images), folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_at_random_moments_change_nothing(moments, images, tmp_path):
    expected, _ = moments
    longest = seconds_of(run_here, images, tmp_path / "whole")
    kills = runs = writing = 0
    while kills < KILLS:
        folder = tmp_path / f"run-{runs}"
        while killed_after(
            RANDOM.uniform(0, longest) if kills < KILLS else 300, run_here, images, folder
        ):
            kills += 1
            writing += any(name.endswith(".part") for name in unfinished_writes(folder))
        assert outcome_of(folder) == outcome_of(expected)
        assert states_of(folder) == states_of(expected)
        runs += 1
    print(f"{kills} kills, {writing} of them during a write; {runs} runs")  # noqa: T201


def grid_of(images):
    """Two cells of the short run; they share what the paper's cells share."""
    given = dict(one.split("=") for one in SHORT)
    path = images.parent / "grid.yaml"
    lines = "".join(f"  {key}: {value}\n" for key, value in given.items())
    write_text(
        path,
        f"name: grid\ntitle: t\nconfig: {short_file(images)}\nper_class: [1, 2]\nseeds: [0]\n"
        f"set:\n{lines}",
    )
    return experiment_of(str(path))


def compute_grid(experiment, root):
    torch.set_num_threads(1)
    ended = run_cells(Work(experiment, root / "runs", root / "results"), experiment.cells)
    assert not ended.failed, ended.failed


def records_of(root):
    found = [without_seconds(read_json(path)) for path in sorted(root.glob("results/*/*.json"))]
    for record in found:
        del record["environment"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_grid_killed_at_random_moments_gives_the_same_records(images, tmp_path):
    experiment = grid_of(images)
    longest = seconds_of(compute_grid, experiment, tmp_path / "whole")
    kills = grids = 0
    while kills < KILLS // 2:
        root = tmp_path / f"grid-{grids}"
        while killed_after(
            RANDOM.uniform(0, longest) if kills < KILLS // 2 else 300,
            compute_grid,
            experiment,
            root,
        ):
            kills += 1
        assert len(records_of(root)) == 2
        assert records_of(root) == records_of(tmp_path / "whole")
        assert not unfinished_writes(root)
        assert content_of(root).keys() == content_of(tmp_path / "whole").keys()
        grids += 1
    print(f"{kills} kills of {grids} grids")  # noqa: T201
