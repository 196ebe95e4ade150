"""Clips as a data set: the same from the folder of `atcon clips` and from its table of events."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from videos import make_video, numbers, six_patients, write_events

from atcon.data import (
    ClipForm,
    ImageSet,
    Reader,
    clips,
    few_shot_split,
    load,
    unlabelled_clips,
)
from atcon.errors import BadImageError, InputError
from atcon.experiments.clips import make_clips
from atcon.types import Example

FORM = ClipForm(seconds=2, rate=4, size=80)
PARTS = ("pool", "validation", "test")


@pytest.fixture(scope="module")
def recordings(video, tmp_path_factory) -> Path:
    """Six patients, a recording each; read it only."""
    return six_patients(tmp_path_factory.mktemp("data") / "recordings", video)


@pytest.fixture(scope="module")
def whole_folder(recordings, tmp_path_factory) -> Path:
    """The clips of the recordings; read it only."""
    out = tmp_path_factory.mktemp("data") / "clips"
    make_clips(recordings / "events.csv", out, form=FORM)
    return out


@pytest.fixture
def folder(whole_folder, tmp_path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(whole_folder, tmp_path / "clips"))


def examples(made: ImageSet, part: str) -> tuple[Example, ...]:
    return getattr(made, part) or ()


def everything(made: ImageSet) -> dict[str, Example]:
    return {example.name: example for part in PARTS for example in examples(made, part)}


def test_every_clip_is_there_with_its_class_its_patient_and_its_own_frames(recordings):
    made = clips(recordings, form=FORM)
    assert (made.unit, made.frames, made.rate, made.classes) == ("clips", 8, 4, ("a", "b"))
    found = everything(made)
    assert len(found) == 48
    for patient in range(6):
        for start in (0, 2, 4, 6, 9, 11, 13, 15):
            example = found[f"v/{patient}.mp4 {start}-{start + 2} s"]
            assert example.group == f"p{patient}"
            assert example.labels == (int(start >= 9),)
            assert numbers(made.read(example)) == [int((start + k / 4) * 25) for k in range(8)]


def test_parts_share_no_patient_and_are_of_similar_size(recordings):
    made = clips(recordings, form=FORM)
    patients = [{example.group for example in examples(made, part)} for part in PARTS]
    assert [len(found) for found in patients] == [2, 2, 2]
    assert len(set.union(*patients)) == 6
    assert clips(recordings, form=FORM).pool == made.pool
    others = [clips(recordings, form=FORM, seed=seed) for seed in range(1, 5)]
    assert any(other.pool != made.pool for other in others)


def test_the_folder_of_atcon_clips_is_the_same_data_set(recordings, whole_folder):
    of_table, of_folder = clips(recordings, form=FORM), clips(whole_folder)
    assert (of_folder.frames, of_folder.rate) == (of_table.frames, of_table.rate)
    for part in PARTS:
        pairs = zip(examples(of_table, part), examples(of_folder, part), strict=True)
        for one, other in pairs:
            assert (one.name, one.labels, one.group) == (other.name, other.labels, other.group)
            assert torch.equal(of_table.read(one), of_folder.read(other))


def test_a_few_shot_split_takes_clips_and_their_patients_stay_in_their_part(whole_folder):
    made = clips(whole_folder)
    split = few_shot_split(made, per_class=3, validation_images=8, seed=0)
    assert len(split.train) == 6
    assert split.test == made.test
    loaded = load(Reader(made, 40), split.train)
    assert loaded.pixels.shape == (6, 3, 8, 40, 40)


def test_splits_of_the_table_are_kept(video, tmp_path):
    for name in ("one", "two"):
        shutil.copy(video, tmp_path / f"{name}.mp4")
    rows = ["one.mp4,p,0,4,a,train", "two.mp4,q,0,4,a,test", "two.mp4,q,5,9,b,test"]
    rows += ["one.mp4,p,5,9,b,train"]
    table = write_events(tmp_path / "t.csv", rows, "video,patient,start,end,label,split")
    made = clips(table, form=FORM)
    assert {example.group for example in made.pool} == {"p"}
    assert {example.group for example in made.test} == {"q"}
    assert made.validation is None


def test_selected_classes_stand_in_the_order_wanted_and_others_are_left_out(video, tmp_path):
    shutil.copy(video, tmp_path / "one.mp4")
    shutil.copy(video, tmp_path / "two.mp4")
    rows = [
        f"{name}.mp4,{name},{5 * k},{5 * k + 4},{label},{part}"
        for name, part in (("one", "train"), ("two", "test"))
        for k, label in enumerate("abc")
    ]
    table = write_events(tmp_path / "t.csv", rows, "video,patient,start,end,label,split")
    made = clips(table, form=FORM, classes=["c", "a"])
    assert made.classes == ("c", "a")
    assert {
        name: example.labels for name, example in everything(made).items() if "one" in name
    } == {
        "one.mp4 0-2 s": (1,),
        "one.mp4 2-4 s": (1,),
        "one.mp4 10-12 s": (0,),
        "one.mp4 12-14 s": (0,),
    }
    with pytest.raises(InputError, match="'d'"):
        clips(table, form=FORM, classes=["a", "d"])


def test_a_missing_clip_is_left_out_by_name_or_an_error_as_the_policy_says(folder):
    gone = everything(clips(folder))["v/0.mp4 0-2 s"]
    Path(str(gone.path)).unlink()
    made = clips(folder)
    assert len(everything(made)) == 47
    assert [name for name, _ in made.skipped] == ["v/0.mp4 0-2 s"]
    with pytest.raises(BadImageError, match="no such clip"):
        clips(folder, on_bad_image="error")


def test_a_damaged_clip_is_found_when_it_is_read(folder):
    example = everything(clips(folder))["v/0.mp4 0-2 s"]
    path = Path(str(example.path))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=r"not the clip that clips\.csv lists"):
        clips(folder).read(example)


def test_events_that_cannot_be_used_are_named(recordings, tmp_path):
    folder = Path(shutil.copytree(recordings, tmp_path / "recordings"))
    (folder / "v/3.mp4").unlink()
    made = clips(folder, form=FORM)
    assert len(everything(made)) == 40
    assert len(made.skipped) == 2
    for name, reason in made.skipped:
        assert "v/3.mp4" in name
        assert name not in reason
    with pytest.raises(BadImageError, match=r"3\.mp4"):
        clips(folder, form=FORM, on_bad_image="error")


def test_what_cannot_be_a_data_set_is_refused_with_the_way_out(folder, tmp_path):
    with pytest.raises(InputError, match="are cut already"):
        clips(folder, form=FORM)
    with pytest.raises(InputError, match="neither a folder of atcon clips"):
        clips(tmp_path / "nothing")
    about = folder / "clips.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "complete": False}))
    with pytest.raises(InputError, match="run the same atcon clips again"):
        clips(folder)
    about.write_text("{}")
    with pytest.raises(InputError, match="not the record of atcon clips"):
        clips(folder)


def test_a_table_without_one_clip_says_why(tmp_path):
    make_video(tmp_path / "short.mp4", 2)
    table = write_events(tmp_path / "events.csv", ["short.mp4,p,0,1.5,a"])
    with pytest.raises(InputError, match=r"no clip is left of it; .*lasts 1\.5 s"):
        clips(table, form=FORM)


def test_too_many_clips_for_memory_belong_into_a_folder(recordings, monkeypatch):
    module = sys.modules["atcon.data.clips"]  # the name is also that of its function
    monkeypatch.setattr(module, "MOST_IN_MEMORY", 47)
    with pytest.raises(InputError, match=r"atcon clips .* --out DIR"):
        clips(recordings, form=FORM)


def test_clips_of_a_folder_serve_without_labels(whole_folder, tmp_path):
    made = clips(whole_folder)
    found = unlabelled_clips(whole_folder, made)
    assert (len(found.pool), found.frames, found.rate) == (48, 8, 4)
    assert all(example.labels == () for example in found.pool)
    assert found.read(found.pool[0]).shape == (3, 8, 80, 80)
    with pytest.raises(InputError, match="no clip of atcon clips below"):
        unlabelled_clips(tmp_path, made)
