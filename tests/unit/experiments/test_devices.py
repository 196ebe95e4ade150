"""Several processes that share every batch do what one does, and end as one."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from nets import sgd, stages
from pipeline import atcon, sets, tiny, without_seconds
from safetensors.torch import load_file
from tiny import pictures

from atcon.baselines import sum_of
from atcon.consistency import ConsistencyLoss
from atcon.errors import AtconError, InputError
from atcon.experiments import launch as launching
from atcon.experiments.dividing import check_divisible, count_of
from atcon.experiments.grid import fingerprint
from atcon.experiments.launch import launch
from atcon.experiments.progress import Progress
from atcon.experiments.run import run
from atcon.records import read_lines
from atcon.training import (
    ALONE,
    Addend,
    Batch,
    Processes,
    SupervisedLoss,
    consistency_step,
    divided,
    supervised_step,
)

EXACT = ("device=cpu", "precision=64-true", "supervised.batch_size=7")
"""The batches of 20 images have 7, 7 and 6; two processes have 4 and 3, four 2, 2, 2 and 1."""
ROOT = Path(__file__).parents[3]


def weights_of(folder):
    return {path.stem: load_file(path) for path in (folder / "checkpoints").glob("*.safetensors")}


def assert_same(folder, other, *, near=1e-12):
    ours, theirs = weights_of(folder), weights_of(other)
    assert ours.keys() == theirs.keys() != set()
    for stage, weights in ours.items():
        for name, weight in weights.items():
            gap = float((weight.double() - theirs[stage][name].double()).abs().max())
            assert gap <= near, f"{stage}, {name}: {gap}"
    lines, others = (read_lines(one / "metrics.jsonl") for one in (folder, other))
    assert len(lines) == len(others)
    for line, its in zip(lines, others, strict=True):
        assert (line["stage"], line["epoch"]) == (its["stage"], its["epoch"])
        assert line["validation"] == pytest.approx(its["validation"], abs=1e-9)
        assert line["loss"] == pytest.approx(its["loss"], abs=1e-6)  # Fabric rounds it to float32
        if "correlation" in line:
            assert line["correlation"] == pytest.approx(its["correlation"], abs=1e-6)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process; the folder, and the summary."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    return folder, run(tiny(*EXACT), folder)


def _ten_steps(kind, processes, _progress=None):
    """Ten steps of plain gradient descent on both losses, in batches of five; give the weights."""
    model = stages(kind)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):  # its draws are not those of one process
            module.p = 0.0
    supervised = Addend(SupervisedLoss(model, multi_label=False, batch_norm="frozen"))
    consistency = ConsistencyLoss(model)
    ours, optimizer = Addend(consistency), sgd(model.parameters())
    step = sum_of(
        divided(supervised_step(supervised), supervised),
        divided(consistency_step(ours, consistency), ours),
    )
    part = processes.part(5)
    names = tuple("abcde"[part])
    for at in range(10):
        images, labels = pictures(5, seed=at, dtype=kind), torch.eye(4, dtype=kind)[[0, 1, 2, 3, 0]]
        optimizer.zero_grad(set_to_none=True)
        found = step(Batch(images[part], labels[part], names, share=len(names) / 5))
        found.loss.backward()
        processes.add_up(found.logged, list(model.parameters()))
        optimizer.step()
    return {name: weight.detach().numpy() for name, weight in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(("kind", "near"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_ten_steps_of_several_processes_equal_those_of_one(count, kind, near):
    start = {name: weight.detach().numpy() for name, weight in stages(kind).named_parameters()}
    expected = _ten_steps(kind, ALONE)
    found = launch(partial(_ten_steps, kind), count, Progress(), on_gpu=False)
    assert max(abs(weight - start[name]).max() for name, weight in expected.items()) > 0.1
    for name, weight in expected.items():
        assert abs(found[name] - weight).max() <= near, name


class _Killing(Progress):
    """Kills one of the processes when the first epoch of a stage is over."""

    def __init__(self, stage, rank):
        self.stage, self.rank, self.killed = stage, rank, False

    def milestone(self, text):
        if text.startswith(f"{self.stage} epoch 1") and not self.killed:
            self.killed = True
            (process,) = (
                child
                for child in multiprocessing.active_children()
                if child.name == f"process {self.rank} of 2"
            )
            os.kill(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_run_of_several_processes_equals_that_of_one(count, alone, tmp_path):
    folder, summary = alone
    found = run(tiny(*EXACT, f"devices={count}"), tmp_path / "run")
    assert_same(tmp_path / "run", folder)
    for stage, record in found["stages"].items():
        assert record["test"] == pytest.approx(summary["stages"][stage]["test"], abs=1e-6)
    assert without_seconds(found["gain"]) == without_seconds(summary["gain"])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["gain"] == found["gain"]


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_which_is_then_resumed(alone, tmp_path):
    config, out = tiny(*EXACT, "devices=2"), tmp_path / "run"
    with pytest.raises(AtconError, match=r"process 1 of 2 was ended from outside by SIGKILL"):
        run(config, out, progress=_Killing("consistency", rank=1))
    assert not multiprocessing.active_children()
    assert (out / "checkpoints" / "supervised.json").exists()
    assert not (out / "summary.json").exists()
    with pytest.raises(InputError, match="--resume"):
        run(config, out)
    run(config, out, resume=True)
    assert_same(out, alone[0])


@pytest.mark.slow
def test_torchrun_starts_the_processes_as_well(alone, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*start, "--no-python", sys.executable, "-c", "from atcon.cli import main; main()"]
    overrides = sets(*EXACT, "devices=2")
    ended = subprocess.run(  # noqa: S603  ours
        [*command, "run", "digits", *overrides, "--out", tmp_path / "run"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert_same(tmp_path / "run", alone[0])
    assert (tmp_path / "run" / "report.html").exists()


def _fail_in_the_second(processes, progress):
    progress.note(f"{processes.rank} of {processes.count}")
    if not processes.first:
        raise InputError("the second has no data")
    return processes.same(lambda: "waits for the second")


def _count(processes, progress):
    progress.begin("counting", 1)
    weights = [torch.zeros(2), torch.zeros(1), torch.zeros(1)]
    weights[0].grad = torch.full((2,), float(processes.rank + 1))
    if processes.rank == 1:
        weights[1].grad = torch.tensor([5.0])
    sums = processes.add_up({"loss": 1.0, **({"own": 2.0} if processes.first else {})}, weights)
    return sums, [None if weight.grad is None else weight.grad.tolist() for weight in weights]


class _Noting(Progress):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)

    def begin(self, title, total, unit=""):
        self.said.append((title, total, unit))


@pytest.mark.slow
def test_the_error_of_one_process_ends_all_and_is_what_is_said():
    progress = _Noting()
    with pytest.raises(InputError, match=r"^the second has no data$"):
        launch(_fail_in_the_second, 2, progress, on_gpu=False)
    assert not multiprocessing.active_children()
    assert progress.said == ["0 of 2"]


def test_gradients_and_numbers_are_sums_and_what_no_process_has_is_left_out():
    progress = _Noting()
    sums, gradients = launch(_count, 2, progress, on_gpu=False)
    assert sums == {"loss": 2.0, "own": 2.0}
    assert gradients == [[3.0, 3.0], [5.0], None]
    assert progress.said == [("counting", 1, "")]


def test_an_interruption_ends_all(monkeypatch):
    def interrupted(*_given):
        raise KeyboardInterrupt

    monkeypatch.setattr(launching, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch(_count, 2, Progress(), on_gpu=False)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("images", [1, 3, 4, 9])
def test_every_image_of_a_batch_has_one_process_and_the_first_ones_have_more(count, images):
    parts = [range(images)[Processes(rank, count).part(images)] for rank in range(count)]
    assert [image for part in parts for image in part] == list(range(images))
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("baselines=[simclr]", "simclr_pretraining: images of a batch interact"),
        ("baselines=[fixmatch]", "fixmatch: images of a batch interact"),
        ("baselines=[laso]", "laso: images of a batch interact"),
        ("supervised.batch_norm=batch", "supervised.batch_norm = 'batch'"),
        ("consistency.batch_norm=batch", "consistency.batch_norm = 'batch'"),
        ("consistency.mask_strength=[0, 1]", "consistency.mask_strength: drawn"),
        ("variants={soft: {mask_noise: 1.0}}", "variants.soft.mask_noise: drawn"),
    ],
)
def test_what_several_processes_would_do_otherwise_is_refused_before_anything_starts(
    override, said, tmp_path
):
    overrides = sets("devices=2", "device=cpu", override)
    ended = atcon("run", "digits", *overrides, "--out", tmp_path / "run")
    assert ended.code == 2
    assert said in ended.err
    assert "devices=1" in ended.err
    assert not (tmp_path / "run").exists()
    check_divisible(tiny("devices=2", "device=cpu"), 2)


def test_the_number_of_processes_fits_the_devices(monkeypatch):
    assert count_of(tiny("device=cpu")) == count_of(tiny("device=cpu", "devices=auto")) == 1
    assert count_of(tiny("device=cpu", "devices=3")) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert count_of(tiny("devices=auto")) == 2
    with pytest.raises(InputError, match="devices = 3, but there are 2 GPUs"):
        count_of(tiny("devices=3"))
    with pytest.raises(InputError, match="device = 'cuda:1' is a single one"):
        count_of(tiny("device=cuda:1", "devices=2"))
    assert fingerprint(tiny("devices=2")) == fingerprint(tiny())
