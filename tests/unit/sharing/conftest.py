"""A real run on images of patients, whose names and metadata must not get into any copy."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from finished_folders import edit
from offline import offline
from patients import GROUPS, HOST, MARKERS, NAMES, PLACES, make_patients
from pipeline import atcon, folder_config, truncate


@dataclass(frozen=True)
class Clinic:
    """A data set, the run on it, and what must not get out.

    Attributes:
        images: The folder of the images.
        run: The finished run.
        words: Names, groups, places, the machine, and the hashes of the files.
        attempts: To reach the network while it ran.
    """

    images: Path
    run: Path
    words: tuple[str, ...]
    attempts: tuple[str, ...]


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    """Read it, never write into it."""
    base = tmp_path_factory.mktemp("work") / PLACES[0]
    images = make_patients(base / PLACES[1])
    paths = sorted(images.rglob("*.*"))
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    for path in sorted(images.glob("red/*"))[:4]:
        truncate(path)
    config = folder_config(base / "own.yaml", images)
    with offline() as attempts:
        ended = atcon("run", config, "--out", base / "run", "--set", "controls.uniform=false")
    assert ended.code == 0, ended.err
    edit(base / "run" / "split.json", _with_groups)
    edit(base / "run" / "environment.json", lambda one: one.update(platform=f"Linux-6.1-{HOST}"))
    words = (*NAMES, *GROUPS, *PLACES, *MARKERS, HOST, str(images), *hashes)
    return Clinic(images, base / "run", words, tuple(attempts))


def _with_groups(split: dict) -> None:
    for part in ("train", "validation", "test"):
        for at, entry in enumerate(split[part]):
            entry["group"] = GROUPS[at % len(GROUPS)]
    split["notes"] = [{"name": split["test"][0]["name"], "remark": f"of {GROUPS[0]}: odd"}]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "study.key"
