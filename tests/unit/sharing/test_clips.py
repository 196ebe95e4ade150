"""What recordings say of patients gets into no clip, film, strip, report or shared copy."""

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from offline import offline
from page import parse
from patients import GROUPS, NAMES, PLACES
from PIL import Image
from pipeline import atcon
from recordings import BORN, MARKERS, TAGS, make_recordings
from traces import traces

from atcon.experiments.config import dump_config, load_config
from atcon.records import read_csv, read_json, write_text
from atcon.sharing import Pseudonyms, share
from atcon.sharing.hidden import CAUSES, hidden_split
from atcon.sharing.settings import hidden_config

KEY = bytes(range(32))
WORDS = (*NAMES, *GROUPS, *PLACES, *MARKERS, BORN)
FILM = {"major_brand", "minor_version", "compatible_brands", "encoder"}
TRACK = {"language", "handler_name", "vendor_id", "encoder"}
"""What any MP4 says of itself."""


@dataclass(frozen=True)
class Ward:
    """Recordings, their clips, a run on these, the maps of one recording, and what was said."""

    recordings: Path
    clips: Path
    config: Path
    run: Path
    maps: Path
    attempts: tuple[str, ...]
    said: str


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Ward:
    """Read it, never write into it."""
    base = tmp_path_factory.mktemp("ward") / PLACES[0]
    table = make_recordings(base / PLACES[1])
    config, run, clips, maps = (base / name for name in ("own.yaml", "run", "clips", "maps"))
    write_text(
        config,
        f"data: {{name: clips, root: {clips}, per_class: 2, validation_images: 4, image_size: 32,"
        " augmentation: clip}\n"
        "model: {name: frames/digits_resnet}\n"
        "supervised: {epochs: 1, lr: 1.0e-3}\n"
        "consistency: {epochs: 1, lr: 1.0e-5}\n"
        "controls: {uniform: false}\n"
        "evaluation: {gallery: 2, resamples: 100}\n",
    )
    form = ("--seconds", 1, "--rate", 2, "--size", 32)
    recording = table.parent / f"{NAMES[0]} {NAMES[1]} 0.mp4"
    with offline() as attempts:
        ended = [
            atcon("clips", table, "--out", clips, *form, "--quiet"),
            atcon("run", config, "--out", run),
            atcon("evaluate", run),
            atcon("compare", run),
            atcon("attend", run, recording, "--out", maps, "--quiet"),
        ]
    assert [one.code for one in ended] == [0] * len(ended), [one.err for one in ended]
    said = "\n".join(one.out + one.err for one in ended)
    return Ward(table.parent, clips, config, run, maps, tuple(attempts), said)


@pytest.fixture(scope="module")
def shared(ward, tmp_path_factory) -> Path:
    """A copy with pictures; read it, never write into it."""
    return share(ward.run, tmp_path_factory.mktemp("shared") / "copy", Pseudonyms(KEY), images=True)


def pictures(page: Path) -> list[bytes]:
    text = page.read_text(encoding="utf-8")
    return [base64.b64decode(one) for one in re.findall(r"base64,([A-Za-z0-9+/=]{24,})", text)]


def test_the_recordings_hold_every_tag(ward):
    assert {word for _, word in traces(ward.recordings, MARKERS)} == set(MARKERS)
    with av.open(str(next(ward.recordings.glob("*.mp4")))) as container:
        assert {key: container.metadata[key] for key in TAGS} == TAGS


def test_no_tag_of_a_recording_is_in_clips_run_or_maps(ward):
    for folder in (ward.clips, ward.run, ward.maps):
        assert traces(folder, (*MARKERS, BORN)) == set()
    assert {path.suffix for path in ward.maps.iterdir()} == {".json", ".npz", ".png", ".mp4"}


def test_the_files_of_clips_tell_nobody_whom_they_show(ward):
    assert traces(ward.clips / "clips", WORDS) == set()
    found = {word for _, word in traces(ward.clips, WORDS)}  # the manifest is its owner's
    assert found >= {*NAMES, *GROUPS}


def test_films_say_nothing_but_that_they_are_films(ward):
    films = sorted(ward.maps.glob("*.mp4"))
    assert [film.name for film in films] == ["0000-consistency.mp4", "0000-supervised.mp4"]
    for film in films:
        assert traces(ward.maps, WORDS) <= {("index.json", word) for word in WORDS}
        with av.open(str(film)) as container:
            assert set(container.metadata) <= FILM
            (track,) = container.streams
            assert set(track.metadata) <= TRACK


def test_strips_are_pictures_without_metadata(ward):
    strips = [*pictures(ward.run / "report.html"), (ward.maps / "0000.png").read_bytes()]
    assert len(strips) == 2 * 7 + 1
    for content in strips:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_no_step_reaches_for_the_network(ward):
    assert ward.attempts == ()


def test_no_byte_of_a_copy_names_a_recording_a_patient_or_a_place(ward, shared):
    hashes = [row["sha256"] for row in read_csv(ward.clips / "clips.csv")]
    assert traces(shared, (*WORDS, *hashes, str(ward.clips))) == set()
    assert {word for _, word in traces(ward.run, WORDS)} >= {*NAMES, *GROUPS, PLACES[0]}


def test_a_copy_calls_clips_clips_and_keeps_what_is_known_of_them(ward, shared):
    before, after = (read_json(run / "split.json") for run in (ward.run, shared))
    names = Pseudonyms(KEY, "clip")
    for part in ("train", "validation", "test"):
        expected = {names.image(e["name"]): names.group(e["group"]) for e in before[part]}
        assert {e["name"]: e["group"] for e in after[part]} == expected
        assert all(name.startswith("clip-") for name in expected)
    for kind in ("predictions", "localisation"):
        for path in (ward.run / kind).iterdir():
            expected = [{**row, "name": names.image(row["name"])} for row in read_csv(path)]
            assert read_csv(shared / kind / path.name) == sorted(expected, key=lambda r: r["name"])
    text = parse((shared / "report.html").read_text(encoding="utf-8")).one("footer").text
    assert "Names of clips are pseudonyms" in text


def test_films_and_strips_follow_images_in_a_copy(ward, shared, tmp_path):
    for folder in (ward.run, shared):
        assert {path.suffix for path in folder.glob("gallery/*")} == {".npz", ".json"}
    arrays = [np.load(path)["image"] for path in sorted(shared.glob("gallery/*.npz"))]
    assert [one.shape for one in arrays] == [(2, 32, 32, 3)] * 2
    bare = share(ward.run, tmp_path / "bare", Pseudonyms(KEY))
    assert not (bare / "gallery").exists()
    assert pictures(bare / "report.html") == []


def test_the_form_of_clips_stays_in_the_configuration_of_a_copy(ward, tmp_path):
    overrides = ["data.clip={seconds: 2, rate: 4, short: pad}", "data.root=karl"]
    path = tmp_path / "run.yaml"
    config = load_config(str(ward.config), overrides)
    path.write_text(hidden_config(dump_config(config), Pseudonyms(KEY)))
    again = load_config(str(path)).data
    assert again.clip == config.data.clip
    assert again.root == Pseudonyms(KEY).text("karl")


def test_a_run_without_images_writes_no_strip_and_no_film(ward, tmp_path):
    ended = atcon("run", ward.config, "--out", tmp_path / "run", "--no-images")
    assert ended.code == 0, ended.err
    written = {path.suffix for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert not written & {".npz", ".png", ".jpg", ".mp4"}
    assert pictures(tmp_path / "run" / "report.html") == []
    ended = atcon("report", ward.run, "--no-images", "--out", tmp_path / "bare.html")
    assert ended.code == 0, ended.err
    assert pictures(tmp_path / "bare.html") == []


def test_terminal_and_page_of_a_run_on_clips_speak_of_clips(ward, shared):
    said = " ".join(ward.said.split())
    assert "8 test clips" in said
    assert "evaluation: 8 clips" in said
    assert "image" not in said.lower()
    page = parse((ward.run / "report.html").read_text(encoding="utf-8"))
    words = page.one("main").text.partition("To do it again")[0]  # then the configuration follows
    assert "On the test clips" in words
    assert "image" not in words.lower()
    assert {img.attributes["alt"].partition(" clip ")[1] for img in page.all("img")} == {" clip "}
    assert "test clips" in read_json(ward.run / "summary.json")["verdict"]["reasons"][-1]


MESSAGES = (
    "e.csv, line 2 (karl.mp4, 0 to 1): no patient",
    "e.csv, line 2 (karl.mp4, 0 to 1): lasts 0.2 s, shorter than a clip of 1 s",
    "e.csv, line 2 (karl.mp4, 0 to 1): the recording lasts 0.5 s",
    "e.csv, line 2 (karl.mp4, 0 to 1), clip at 0 s: overlaps 'b' of e.csv, line 3",
    "/karl.mp4: no frame between 1 and 2 s; those after may build on lost ones",
    "/karl.mp4: not a whole recording in a known format (Invalid data)",
    "/karl.mp4: not the clip that clips.csv lists, whose SHA-256 differs",
)


@pytest.mark.parametrize("message", MESSAGES)
def test_why_a_clip_was_left_out_is_told_without_its_recording(ward, message):
    split = {**read_json(ward.run / "split.json"), "skipped": [{"name": "x", "reason": message}]}
    (entry,) = hidden_split(split, Pseudonyms(KEY, "clip"))["skipped"]
    assert entry["reason"] in CAUSES
    assert entry["reason"] in message
