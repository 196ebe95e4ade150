"""Promise 20: records of an older version are read, or refused with the version named.

The files are real: `old_records/README.md` says which commit wrote each.
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from pipeline import atcon, content_of, make_folder

from atcon import records
from atcon.data import clips
from atcon.errors import InputError
from atcon.experiments.cell_record import cell_record
from atcon.experiments.folder import RunFolder
from atcon.report.inputs import read_run

ARCHIVES = Path(__file__).parent / "old_records"
VERSIONS = ("51b342f", "67a3491", "c6720dc")
FIRST, *LATER = VERSIONS
SLOW = pytest.mark.slow
CLIPS, SHARED = "fd6e6e1", "56842bb"
CONFIG = (ARCHIVES / "README.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    """All archives, unpacked; read them only."""
    root = tmp_path_factory.mktemp("old")
    for archive in ARCHIVES.glob("*.tar.xz"):
        with tarfile.open(archive) as packed:
            packed.extractall(root / archive.name.partition(".")[0], filter="data")
    return root


def stopped(old: Path, version: str, place: Path) -> Path:
    """A copy of an unfinished run, and its configuration beside it."""
    (place / "old.yaml").write_text(CONFIG, encoding="utf-8")
    return Path(shutil.copytree(old / version / "stopped", place / "run"))


def resumed(folder: Path, *more: str):
    return atcon("run", folder.parent / "old.yaml", *more, "--resume", "--out", folder, "--quiet")


@pytest.mark.parametrize("version", [FIRST, *(pytest.param(one, marks=SLOW) for one in LATER)])
def test_a_finished_run_is_read_by_the_commands_that_read_runs(version, old, tmp_path):
    run = Path(shutil.copytree(old / version / "finished", tmp_path / "run"))
    before = content_of(run)
    assert read_run(run).summary["stages"].keys() == {"supervised", "consistency", "uniform"}
    assert len(read_run(run).epochs) >= 4
    photograph = next(make_folder(tmp_path / "images", 1).rglob("*.jpg"))
    for words in (
        ("compare", run, old / VERSIONS[-1] / "finished", "--json"),
        ("attend", run, photograph, "--out", tmp_path / "maps"),
        ("share", run, "--out", tmp_path / "shared", "--key", tmp_path / "key"),
    ):
        ended = atcon(*words)
        assert ended.code == 0, ended.err
    assert content_of(run) == before
    assert atcon("report", run).code == 0
    assert "<svg" in (run / "report.html").read_text(encoding="utf-8")


@SLOW
@pytest.mark.parametrize("version", VERSIONS)
def test_a_finished_run_is_evaluated_and_watched_again(version, old, tmp_path):
    run, images = old / version / "finished", make_folder(tmp_path / "images", 4)
    ended = atcon("evaluate", run, "--out", tmp_path / "again")
    assert ended.code == 0, ended.err
    assert records.read_json(tmp_path / "again" / "evaluation.json")["counts"]["test"] == 8
    ended = atcon("monitor", run, images / "red", "--out", tmp_path / "watch")
    assert ended.code == 0, ended.err


def test_cells_are_put_together_from_older_runs_or_the_version_is_named(old):
    for version in LATER:
        record = cell_record(RunFolder(old / version / "finished"))
        assert record["stages"].keys() == {"supervised", "consistency", "uniform"}
    with pytest.raises(InputError, match=r"no 'selected_by': .* older atcon \(0\.1\.0\)"):
        cell_record(RunFolder(old / FIRST / "finished"))


@pytest.mark.parametrize("version", [LATER[0], pytest.param(LATER[1], marks=SLOW)])
def test_an_unfinished_run_of_an_older_version_is_continued(version, old, tmp_path):
    folder = stopped(old, version, tmp_path)
    before = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    assert "\ndevices:" not in text  # a key of today
    ended = resumed(folder)
    assert ended.code == 0, ended.err
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[: len(before)] == before
    stages = records.read_json(folder / "summary.json")["stages"]
    assert (folder / "config.yaml").read_text(encoding="utf-8") == text
    assert stages["supervised"]["epochs"] == stages["consistency"]["epochs"] == 2


def test_a_state_that_lacks_what_a_resume_needs_is_refused(old, tmp_path):
    folder = stopped(old, FIRST, tmp_path)
    before = content_of(folder)
    ended = resumed(folder)
    assert ended.code == 2
    assert "last.pt: cannot resume" in ended.err
    assert "of another version: remove it to begin consistency anew" in ended.err
    assert content_of(folder) == before


@SLOW
def test_a_stage_begins_anew_without_its_state_and_others_are_kept(old, tmp_path):
    folder = stopped(old, FIRST, tmp_path)
    before = content_of(folder)
    (folder / "checkpoints" / "last.pt").unlink()
    assert resumed(folder).code == 0
    assert (
        content_of(folder)["checkpoints/supervised.json"] == before["checkpoints/supervised.json"]
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_run_of_another_configuration_is_refused_by_the_keys_that_differ(
    version, old, tmp_path
):
    folder = stopped(old, version, tmp_path)
    before = content_of(folder)
    ended = resumed(folder, "supervised.lr=2e-3", "evaluation.gallery=3")
    assert ended.code == 2
    assert "supervised.lr (0.001 there, 0.002 asked for), evaluation.gallery (2 there" in ended.err
    assert "devices" not in ended.err
    assert content_of(folder) == before


def test_a_key_of_a_newer_version_is_named_with_the_version_that_wrote_it(old, tmp_path):
    folder = stopped(old, VERSIONS[-1], tmp_path)
    config, machine = folder / "config.yaml", folder / "environment.json"
    config.write_text(config.read_text() + "later: 1\n")
    machine.write_text(machine.read_text().replace('"0.1.0"', '"7.8.9"'))
    ended = resumed(folder)
    assert ended.code == 2
    assert "unknown key 'later' = 1" in ended.err
    assert "begun by atcon 7.8.9" in ended.err


def test_a_stage_of_a_newer_version_is_refused_by_what_is_not_known(old, tmp_path):
    folder = stopped(old, VERSIONS[-1], tmp_path)
    stage = folder / "checkpoints" / "supervised.json"
    stage.write_text(json.dumps({**json.loads(stage.read_text()), "later": 1}))
    ended = resumed(folder)
    assert ended.code == 2
    assert "supervised.json: of another version" in ended.err
    assert "'later'" in ended.err


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("summary.json", ("report",)),
        ("summary.json", ("attend",)),
        ("split.json", ("compare",)),
        ("environment.json", ("report",)),
        ("gallery/index.json", ("report",)),
        ("split.json", ("share",)),
    ],
)
@pytest.mark.parametrize("written", [2, None, "1"])
def test_a_record_of_another_format_is_refused_and_both_formats_are_named(
    record, words, written, old, tmp_path
):
    run = Path(shutil.copytree(old / VERSIONS[-1] / "finished", tmp_path / "run"))
    content = json.loads((run / record).read_text(encoding="utf-8"))
    (run / record).write_text(json.dumps({**content, "format": written}))
    more = {
        "compare": (old / VERSIONS[1] / "finished",),
        "attend": (tmp_path, "--out", tmp_path / "maps"),
        "share": ("--out", tmp_path / "shared", "--key", tmp_path / "key"),
    }
    ended = atcon(*words, run, *more.get(words[0], ()))
    assert ended.code == 2
    assert f"{record}: record format {written!r}, but this atcon reads format 1" in ended.err


def test_clips_of_an_older_version_are_read_to_the_bit_and_others_are_refused(old, tmp_path):
    root = Path(shutil.copytree(old / CLIPS / "clips", tmp_path / "clips"))
    found = clips(root, on_bad_image="error")
    assert (len(found.pool), len(found.validation), len(found.test)) == (4, 4, 4)
    for example in (*found.pool, *found.validation, *found.test):
        pixels = found.read(example)  # holds the file and the pixels against their hashes
        assert (pixels.shape, pixels.dtype) == ((3, 4, 16, 16), torch.uint8)
    about = root / "clips.json"
    about.write_text(about.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match=r"clips\.json: record format 2, .* reads format 1"):
        clips(root)


def test_a_key_of_an_older_version_gives_the_pseudonyms_that_it_gave(old, tmp_path):
    key = tmp_path / "key"
    shutil.copy(old / SHARED / "key", key)
    key.chmod(0o600)
    run, copy = old / VERSIONS[-1] / "finished", tmp_path / "copy"
    ended = atcon("share", run, "--out", copy, "--key", key)
    assert ended.code == 0, ended.err
    for record in ("split.json", "summary.json"):
        assert records.read_json(copy / record) == records.read_json(
            old / SHARED / "shared" / record
        )
