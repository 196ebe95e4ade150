"""Engines: every cell once, whoever computes it; what fails is said, and tried again."""

import json
import subprocess
import sys

import pytest
from pipeline import atcon

from atcon.alone import alone, is_taken
from atcon.errors import InputError
from atcon.experiments.engines import cell as one_cell
from atcon.experiments.engines.cell import compute
from atcon.experiments.engines.failures import failure_path
from atcon.experiments.engines.handing_out import hand_out, lost
from atcon.experiments.engines.slurm import script_of
from atcon.experiments.engines.states import State, states_of
from atcon.experiments.engines.table import ENGINES, run_cells
from atcon.experiments.engines.work import Options, Outcome, Work
from atcon.experiments.grid import Experiment
from atcon.experiments.progress import Progress
from atcon.experiments.shared import release

ONE = Experiment(name="one", title="t", config="digits", per_class=(1, 2), seeds=(3, 4))
YAML = "name: one\ntitle: t\nconfig: digits\nper_class: [1, 2]\nseeds: [3, 4]\n"


@pytest.fixture
def work(tmp_path):
    return Work(ONE, tmp_path / "runs", tmp_path / "results")


@pytest.fixture
def quick(monkeypatch):
    """Cells that take no time; a list of those computed."""
    computed = []

    def run(config, out, **_given):
        computed.append(out.name)
        out.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(one_cell, "run", run)
    monkeypatch.setattr(one_cell, "cell_record", lambda folder: {"seed": 0})
    return computed


def fail(monkeypatch, error):
    def run(*_given, **_more):
        raise error

    monkeypatch.setattr(one_cell, "run", run)


def test_a_cell_that_another_process_computes_is_passed_over_and_shown_as_running(work, quick):
    first, *others = ONE.cells
    root = work.folder(first).root
    root.parent.mkdir(parents=True)
    with alone(root, lambda: None):
        assert is_taken(root)
        assert states_of(work)[first] == State("running")
        ended = run_cells(work, ONE.cells)
    assert ended.elsewhere == (first.name,)
    assert quick == [cell.name for cell in others]
    assert states_of(work)[first] == State("missing")
    assert not is_taken(root)
    run_cells(work, ONE.cells)
    assert quick[-1] == first.name
    assert len(quick) == len(ONE.cells)


def test_whoever_comes_second_finds_the_record_of_the_first(work, quick):
    compute(work, ONE.cells[0], Progress())
    before = work.record(ONE.cells[0]).read_bytes()
    assert compute(work, ONE.cells[0], Progress()) == Outcome("finished")
    assert quick == [ONE.cells[0].name]
    assert work.record(ONE.cells[0]).read_bytes() == before


@pytest.mark.parametrize("engine", ["here", "processes"])
def test_missing_data_are_said_once_with_the_form_that_runs_without_them(engine, tmp_path):
    places = ("--out", tmp_path / "runs", "--results", tmp_path / "results", "--quiet")
    where = ("--set", f"data.root={tmp_path / 'VOC2012'}")
    ended = atcon("experiment", "run", "table2", *places, *where, "--engine", engine)
    assert ended.code == 2
    assert ended.err.count(str(tmp_path / "VOC2012")) == 1
    assert "data.download=true" in ended.err
    assert "atcon experiment run table2 --small" in ended.err
    assert not (tmp_path / "runs").exists()


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    path = tmp_path / "cell"
    code = (
        "import os, signal, pathlib; from atcon.alone import alone\n"
        f"with alone(pathlib.Path({str(path)!r}), print): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603  ours
    assert done.returncode == -9
    assert (tmp_path / ".cell.lock").exists()
    assert not is_taken(path)
    with alone(path, lambda: pytest.fail("the lock of a dead process was waited for")):
        assert is_taken(path)


@pytest.mark.parametrize(
    ("error", "reason", "again"),
    [
        (InputError("data.root not found"), "data.root not found", False),
        (RuntimeError("CUDA out of memory"), "RuntimeError: CUDA out of memory", True),
    ],
)
def test_a_failure_is_recorded_until_the_cell_is_computed(work, monkeypatch, error, reason, again):
    fail(monkeypatch, error)
    cell = ONE.cells[0]
    assert compute(work, cell, Progress()) == Outcome("failed", reason, again)
    assert states_of(work)[cell] == State("failed", reason)
    record = json.loads(failure_path(work, cell).read_text())
    assert (record["traceback"] is None) == isinstance(error, InputError)
    other = Work(ONE, work.out, work.results, ("consistency.lr=1e-3",))
    assert states_of(other)[cell] == State("missing")
    monkeypatch.setattr(one_cell, "run", lambda *_given, **_more: None)
    monkeypatch.setattr(one_cell, "cell_record", lambda folder: {"seed": 0})
    assert compute(work, cell, Progress()) == Outcome("finished")
    assert not failure_path(work, cell).exists()
    assert states_of(work)[cell] == State("finished")


def test_status_says_the_state_of_every_cell_and_why_one_failed(tmp_path, work, monkeypatch, quick):
    compute(work, ONE.cells[0], Progress())
    fail(monkeypatch, RuntimeError("no memory"))
    compute(work, ONE.cells[3], Progress())
    source = tmp_path / "one.yaml"
    source.write_text(YAML)
    ended = atcon("experiment", "status", source, "--out", work.out, "--results", work.results)
    assert ended.out == (
        "N = 1: seeds 3, 4 missing\nN = 2: seeds 3 missing, 4 failed\n"
        "n2-seed-4 failed: RuntimeError: no memory\n"
        "1 of 4 cells are finished, 1 failed\n"
    )


class Scripted:
    """Two workers that end as they are told."""

    def __init__(self, outcomes):
        self.outcomes = {cell: iter(given) for cell, given in outcomes.items()}
        self.running, self.started, self.stopped = [], [], False

    def is_free(self):
        return len(self.running) < 2

    def start(self, cell):
        self.running.append(cell)
        self.started.append(cell)

    def wait(self):
        cell = self.running.pop(0)
        return [(cell, next(self.outcomes[cell]))]

    def stop(self):
        self.stopped = True


def test_a_lost_cell_is_tried_again_and_wrong_input_is_not(work):
    killed, wrong, fine, unlucky = ONE.cells
    done = Outcome("finished")
    workers = Scripted(
        {
            killed: [lost("SIGKILL"), done],
            wrong: [Outcome("failed", "no such file")],
            fine: [done],
            unlucky: [lost("SIGKILL"), lost("SIGSEGV")],
        }
    )
    ended = hand_out(workers, work, ONE.cells, 1, Progress())
    assert ended.failed == {wrong.name: "no such file", unlucky.name: "SIGSEGV"}
    assert [workers.started.count(cell) for cell in ONE.cells] == [2, 1, 1, 2]
    assert states_of(work)[unlucky] == State("failed", "SIGSEGV")
    assert workers.stopped


def test_an_option_of_another_engine_is_refused(work, tmp_path):
    for engine in ENGINES:
        with pytest.raises(InputError, match=r"--sbatch has no effect|KEY=VALUE without blanks"):
            run_cells(work, ONE.cells, engine=engine, options=Options(sbatch=("time 1",)))
    ended = atcon("experiment", "run", "strategies", "--engine", "rays", "--out", tmp_path)
    assert (ended.code, "did you mean 'ray'" in ended.err) == (2, True)
    ended = atcon("experiment", "run", "strategies", "--cell", "n2-seed-01", "--out", tmp_path)
    assert (ended.code, "no cell 'n2-seed-01'" in ended.err) == (2, True)


def test_the_script_for_slurm_calls_each_missing_cell_with_the_words_it_was_given(
    tmp_path, monkeypatch, quick
):
    odd = tmp_path / 'it\'s $HOME; "x" `id`'
    work = Work(
        ONE, odd, tmp_path / "r", ('name="a b\'c"',), source=("one.yaml", "--small"), share=False
    )
    compute(work, ONE.cells[1], Progress())
    program = tmp_path / "atcon"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    options = Options(threads=4, sbatch=("partition=gpu", "time=1-02:00:00", "gpus=a100:1"))
    script = script_of(work, work.missing(ONE.cells), options)
    for line in ("array=0-2", "cpus-per-task=4", "partition=gpu", "time=1-02:00:00", "gpus=a100:1"):
        assert f"#SBATCH --{line}\n" in script.split("set -e")[0]
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)  # noqa: S607
    said = [
        subprocess.run(
            ["bash"],  # noqa: S607
            input=script,
            text=True,
            check=True,
            capture_output=True,
            env={"SLURM_ARRAY_TASK_ID": str(index), "PATH": "/usr/bin:/bin"},
        ).stdout.splitlines()
        for index in range(3)
    ]
    assert [words[-1] for words in said] == ["n1-seed-3", "n2-seed-3", "n2-seed-4"]
    assert said[0][:-1] == [
        *("experiment", "run", "one.yaml", "--small", "--set", 'name="a b\'c"', "--out", str(odd)),
        *("--results", str(tmp_path / "r"), "--no-share", "--quiet", "--cell"),
    ]


@pytest.mark.parametrize("option", ["gpus", "time=1 2", "a=b\n#SBATCH", "array=0-9", "x='y'", "=1"])
def test_an_option_that_sbatch_would_misread_is_refused(work, option):
    with pytest.raises(InputError, match=r"KEY=VALUE|itself"):
        script_of(work, ONE.cells, Options(sbatch=(option,)))


def test_slurm_is_printed_and_nothing_is_run(tmp_path, quick):
    (tmp_path / "one.yaml").write_text(YAML)
    places = ("--out", tmp_path / "runs", "--results", tmp_path / "results")
    command = ("experiment", "run", tmp_path / "one.yaml", "--engine", "slurm", *places)
    printed = atcon(*command)
    assert printed.out.startswith("#!/usr/bin/env bash\n#SBATCH --job-name=atcon-one\n")
    atcon(*command, "--script", tmp_path / "s.sh")
    assert (tmp_path / "s.sh").read_text() == printed.out
    assert quick == []


def test_shared_stages_go_when_the_last_experiment_that_uses_them_is_finished(work, quick):
    for experiment, stage in (("one", "a"), ("one", "b"), ("two", "b")):
        users = work.shared / stage / "users"
        users.mkdir(parents=True, exist_ok=True)
        (users / experiment).touch()
    run_cells(work, ONE.cells[:3])
    assert {path.name for path in work.shared.iterdir()} == {"a", "b"}
    run_cells(work, ONE.cells)
    assert {path.name for path in work.shared.iterdir()} == {"b"}
    release(work.shared, "two")
    assert not list(work.shared.iterdir())
