"""A run on clips, from recordings to films: patients stay together, and F1 chooses."""

from pathlib import Path

import pytest
from pipeline import atcon
from videos import six_patients

from atcon.data import ClipForm, read_video
from atcon.errors import InputError
from atcon.experiments.clips import make_clips
from atcon.experiments.config import load_config
from atcon.experiments.run import run
from atcon.experiments.watch import watch
from atcon.models import build, save_weights
from atcon.records import read_csv, read_json

FORM = {"seconds": 2, "rate": 2, "size": 32}


@pytest.fixture(scope="module")
def recordings(video, tmp_path_factory) -> Path:
    folder = six_patients(tmp_path_factory.mktemp("data") / "recordings", video)
    save_weights(build("cifar_resnet20", classes=10, seed=5).module, folder / "w.safetensors")
    return folder


def settings(recordings: Path, *others: str) -> list[str]:
    return [
        f"data.root={recordings}",
        f"data.clip={FORM}",
        "data.image_size=32",
        "data.per_class=2",
        "data.validation_images=12",
        "model.name=frames/cifar_resnet20",
        f"model.weights={recordings / 'w.safetensors'}",
        "supervised.epochs=1",
        "supervised.validate_every=1 epochs",
        "consistency.epochs=1",
        "consistency.validate_every=1 epochs",
        "baselines=[]",
        "evaluation.gallery=2",
        "evaluation.resamples=100",
        *others,
    ]


@pytest.fixture(scope="module")
def finished(recordings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    run(load_config("lung-ultrasound", settings(recordings)), folder)
    return folder


def test_no_patient_is_in_two_parts_and_the_test_clips_are_all_of_theirs(finished):
    split = read_json(finished / "split.json")
    parts = [{e["group"] for e in split[part]} for part in ("train", "validation", "test")]
    assert [len(part) for part in parts[1:]] == [2, 2]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert len(split["test"]) == 16
    assert len(split["train"]) == 4


def test_f1_chooses_the_epoch_and_patients_are_resampled(finished):
    summary = read_json(finished / "summary.json")
    assert (summary["primary"], summary["unit"]) == ("f1", "clips")
    assert (summary["resampled"], summary["test_groups"]) == ("groups", 2)
    for stage in summary["stages"].values():
        assert stage["selected_by"] == "f1"
        low, high = stage["intervals"]["f1"]
        assert low <= stage["test"]["f1"] <= high


def test_predictions_name_the_clip(finished):
    rows = read_csv(finished / "predictions" / "supervised.csv")
    assert len(rows) == 16
    assert all(".mp4 " in row["name"] and row["name"].endswith(" s") for row in rows)


def test_the_folder_of_atcon_clips_gives_the_same_run(recordings, finished, tmp_path):
    folder = tmp_path / "clips"
    make_clips(recordings / "events.csv", folder, form=ClipForm(**FORM))
    given = [s for s in settings(recordings, f"data.root={folder}") if "data.clip=" not in s]
    run(load_config("lung-ultrasound", [*given, "data.clip=null"]), tmp_path / "run")
    tables = [p / "predictions" / "consistency.csv" for p in (finished, tmp_path / "run")]
    assert tables[0].read_bytes() == tables[1].read_bytes()


def test_attend_writes_a_film_of_every_stage_for_a_stretch_of_a_recording(
    recordings, finished, tmp_path
):
    done = atcon(
        "attend", finished, recordings / "v/0.mp4", "--start", "9", "--out", tmp_path / "seen"
    )
    assert done.code == 0, done.err
    films = sorted((tmp_path / "seen").rglob("*.mp4"))
    assert len(films) == 2
    for film in films:
        assert read_video(film, [0.0, 0.5, 1.0, 1.5]).shape[:2] == (3, 4)


def test_a_network_of_images_refuses_clips_and_names_the_way(recordings, tmp_path):
    given = settings(recordings, "model.name=cifar_resnet20")
    out = atcon(
        "run", "lung-ultrasound", *(w for s in given for w in ("--set", s)), "--out", tmp_path / "r"
    )
    assert out.code == 2
    assert "frames/cifar_resnet20" in out.err


def test_new_clips_are_watched_with_their_patients(finished, recordings, tmp_path):
    folder = tmp_path / "clips"
    make_clips(recordings / "events.csv", folder, form=ClipForm(**FORM))
    record = watch(finished, folder).record
    assert record["unit"] == "clips"
    assert record["counts"] == {"new": 48, "skipped": 0, "labelled": 48, "foreign": {}}
    assert record["consistency"]["new"]["groups"] == 6
    assert record["verdict"]["outcome"] == "too_few"
    for path in folder.rglob("clips.*"):
        path.unlink()
    assert watch(finished, folder).record["counts"]["labelled"] == 0
    make_clips(recordings / "events.csv", tmp_path / "slow", form=ClipForm(2, 1, 32))
    with pytest.raises(InputError, match="cut them as the run's were"):
        watch(finished, tmp_path / "slow")
    with pytest.raises(InputError, match="not a folder of clips"):
        watch(finished, recordings / "events.csv")
