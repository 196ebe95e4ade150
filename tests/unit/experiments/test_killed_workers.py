"""Workers that are killed in the middle of a cell: the grid ends as if nothing had happened."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from pipeline import TINY, without_seconds

from atcon.experiments.engines.table import run_cells
from atcon.experiments.engines.work import Options, Work
from atcon.experiments.grid import Experiment
from atcon.records import read_json

pytestmark = pytest.mark.slow
SETTINGS = {
    **dict(entry.split("=") for entry in TINY if not entry.startswith("data.per_class")),
    "supervised.epochs": 6,
    "supervised.lr": 1e-3,
    "evaluation.gallery": 0,
    "controls.uniform": False,
}
ONE = Experiment(
    name="one", title="t", config="digits", set=SETTINGS, per_class=(1,), seeds=(3, 4, 5)
)


def records_of(work):
    """The records, without what the clock and the place say."""
    found = [read_json(work.record(cell)) for cell in ONE.cells]
    for record in found:
        del record["environment"]
    return [without_seconds(record) for record in found]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    root = tmp_path_factory.mktemp("uninterrupted")
    work = Work(ONE, root / "runs", root / "results")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert not run_cells(work, ONE.cells).failed
    finally:
        torch.set_num_threads(threads)
    return records_of(work)


def killed_in_the_middle(work, engine, options, find):
    """Run the grid; kill, once, the worker of the first cell when it has saved an epoch."""
    kept = []
    thread = threading.Thread(
        target=lambda: kept.append(run_cells(work, ONE.cells, engine=engine, options=options))
    )
    thread.start()
    while thread.is_alive() and not work.folder(ONE.cells[0]).metrics.exists():
        time.sleep(0.02)
    pids = find()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    thread.join()
    assert pids
    return kept[0]


@pytest.mark.parametrize("retries", [1, 0])
def test_a_killed_process_is_tried_again_or_marks_its_cell_and_the_others_go_on(
    tmp_path, expected, retries
):
    work = Work(ONE, tmp_path / "runs", tmp_path / "results")
    options = Options(workers=1, threads=1, retries=retries)
    children = lambda: [child.pid for child in multiprocessing.active_children()]  # noqa: E731
    ended = killed_in_the_middle(work, "processes", options, children)
    if not retries:
        assert list(ended.failed) == ["n1-seed-3"]
        assert "SIGKILL" in ended.failed["n1-seed-3"]
        ended = run_cells(work, ONE.cells, engine="processes", options=options)
    assert not ended.failed
    assert records_of(work) == expected


def ray_workers(mark):
    """The processes of our cluster that compute a cell."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            surroundings = (folder / "environ").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::_serve") and mark.encode() in surroundings:
            found.append(int(folder.name))
    return found


@pytest.mark.filterwarnings("ignore")  # Ray's own, of its processes and files
def test_a_killed_worker_of_ray_is_tried_again_and_everything_finishes(
    tmp_path, expected, monkeypatch
):
    ray = pytest.importorskip("ray")
    mark = f"ATCON_TEST={tmp_path}"
    monkeypatch.setenv("ATCON_TEST", str(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=80 << 20,
    )  # fmt: skip
    try:
        work = Work(ONE, tmp_path / "runs", tmp_path / "results")
        ended = killed_in_the_middle(work, "ray", Options(threads=1), lambda: ray_workers(mark)[:1])
    finally:
        ray.shutdown()
    assert not ended.failed
    assert records_of(work) == expected
