import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pipeline import atcon, content_of, folder_config, make_folder, sets, truncate, without_seconds

from atcon.cli import display
from atcon.records import read_json

SOURCE = Path(__file__).parents[3] / "src"


def test_the_demo_prints_the_summary_it_writes_and_the_same_for_the_same_seed(
    finished_run, tmp_path
):
    ended = atcon("demo", "--json", "--out", tmp_path / "run", *sets())
    assert (ended.code, ended.err) == (0, "")
    said, written = json.loads(ended.out), read_json(tmp_path / "run" / "summary.json")
    written.pop("format")
    before = read_json(finished_run / "summary.json")
    before.pop("format")
    assert said == written
    assert without_seconds(said) == without_seconds(before)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_a_run_tells_each_epoch_on_the_error_stream_and_the_result_on_the_other(
    own_images, tmp_path
):
    config = folder_config(tmp_path / "own.yaml", own_images)
    ended = atcon("run", config, "--out", tmp_path / "run")
    assert ended.code == 0
    for stage in ("supervised", "consistency", "uniform"):
        assert f"{stage} epoch 1: loss" in ended.err
    summary = read_json(tmp_path / "run" / "summary.json")
    words = " ".join(ended.out.split())
    assert summary["verdict"]["sentence"] in words
    assert f"Grad-CAM at {summary['model']['layer']}" in words
    assert f"report: {tmp_path / 'run' / 'report.html'}" in words
    assert "\x1b[" not in ended.out + ended.err
    assert summary["multi_label"] is False
    assert summary["stages"]["supervised"]["test"]["iou"] is None
    again = atcon("evaluate", tmp_path / "run", "--quiet", "--json")
    assert (again.code, again.err) == (0, "")
    stage = summary["stages"]["supervised"]["test"]
    assert json.loads(again.out)["stages"]["supervised"]["test"] == stage


def test_a_truncated_training_image_is_named_on_the_screen_and_in_the_split(tmp_path):
    root = make_folder(tmp_path / "images")
    for number in range(4):
        truncate(root / "red" / f"{number:02d}.jpg")
    config = folder_config(tmp_path / "own.yaml", root)
    ended = atcon("run", config, "--out", tmp_path / "run", "--set", "controls.uniform=false")
    assert ended.code == 0, ended.err
    split = read_json(tmp_path / "run" / "split.json")
    names = {entry["name"] for entry in split["skipped"]}
    assert names
    assert names <= {f"red/{number:02d}.jpg" for number in range(4)}
    assert read_json(tmp_path / "run" / "summary.json")["counts"]["skipped"] == len(names)
    for entry in split["skipped"]:
        assert f"skipped {entry['name']}: {entry['reason']}" in ended.err
    used = {entry["name"] for part in ("train", "validation") for entry in split[part]}
    assert not used & names


def test_without_out_the_first_free_folder_below_runs_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("atcon.experiments.run.run", _summary_only)
    monkeypatch.setattr("atcon.report.write_report", lambda folder: folder / "report.html")
    for number in (1, 2):
        assert atcon("run", "digits", "--json").code == 0
        assert (tmp_path / "runs" / f"digits-{number}").is_dir()


def _summary_only(config, folder, **_):
    folder.mkdir(parents=True)
    return {"name": config.name}


@pytest.mark.parametrize("command", [("run", "digits"), ("demo",)])
def test_an_interrupt_ends_with_130_and_says_how_to_continue(command, tmp_path, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("atcon.experiments.run.run", interrupted)
    ended = atcon(*command, "--out", tmp_path / "run")
    assert ended.code == 130
    assert f"--resume --out {tmp_path / 'run'}" in ended.err
    assert "Traceback" not in ended.err


# A shell that starts a job in the background has it ignore Ctrl-C, and so would our process.
LISTENS_TO_CONTROL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from atcon.cli import main; main()"
)


@pytest.mark.slow
def test_control_c_leaves_a_run_that_resumes(tmp_path):
    arguments = ["run", "digits", "--out", str(tmp_path / "run"), *sets("supervised.epochs=5000")]
    command = [sys.executable, "-c", LISTENS_TO_CONTROL_C, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        command, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stderr or ():
                if line.startswith("supervised epoch 2:"):
                    process.send_signal(signal.SIGINT)
                    break
            _, rest = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "--resume --out" in rest
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()
    assert not [name for name in content_of(tmp_path / "run") if name.endswith(".part")]


class Screen:
    """Stands for rich's bars."""

    def __init__(self) -> None:
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1


def test_a_bar_is_finished_also_where_an_error_ends_the_work():
    progress, bars = display.BarProgress(), Screen()
    progress.bars = bars
    with pytest.raises(ValueError, match="in the middle"), progress:
        raise ValueError("in the middle")
    assert bars.stopped == 1


def test_a_bar_shows_loss_consistency_and_mask_contrast():
    progress = display.BarProgress()
    with progress:
        progress.begin("consistency", 3)
        progress.advance({"loss": -0.5, "correlation": 0.5, "mask_contrast": 0.25, "entropy": 1.0})
        assert progress.bars is not None
        task = progress.bars.tasks[0]
        assert (task.completed, task.total) == (1, 3)
        assert task.fields["values"] == "loss -0.500  consistency 0.500  mask contrast 0.250"


def test_the_display_fits_where_it_is_shown(monkeypatch):
    assert type(display.progress_for(quiet=True)) is display.Progress
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert isinstance(display.progress_for(quiet=False), display.LineProgress)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert isinstance(display.progress_for(quiet=False), display.BarProgress)
