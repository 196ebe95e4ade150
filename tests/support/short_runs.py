"""Runs on files that take a second, and all that must be the same however often one was cut off."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline import content_of, folder_config, without_seconds

from atcon.experiments import stages
from atcon.experiments.config import load_config
from atcon.experiments.run import run
from atcon.experiments.sections import RunConfig
from atcon.records import read_json, read_lines

SHORT = (
    "supervised.epochs=3",
    "consistency.epochs=2",
    "controls.uniform=false",
    "data.test_images=6",
    "evaluation.gallery=1",
    "evaluation.batch_size=2",
)


def short(images: Path, *overrides: str) -> RunConfig:
    """Train on 6 of the images of `make_folder`; the file of the configuration lies beside them."""
    return load_config(str(short_file(images)), [*SHORT, *overrides])


def short_file(images: Path) -> Path:
    """The YAML file, without `SHORT`."""
    path = images.parent / "short.yaml"
    return path if path.exists() else folder_config(path, images)


@contextmanager
def keeping_states(folder: Path) -> Iterator[None]:
    """Keep a copy of what a resume would need at the end of each stage: the optimiser is there."""
    finish = stages._finish

    def kept(bench: Any, name: str, *more: Any) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.pt").write_bytes(bench.folder.last.read_bytes())
        return finish(bench, name, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "_finish", kept)
        yield


def run_or_resume(config: RunConfig, folder: Path) -> None:
    """Run, or continue what lies there, on one thread; the states of the optimisers lie beside."""
    torch.set_num_threads(1)
    with keeping_states(folder.with_name(f"{folder.name}-states")):
        run(config, folder, resume=(folder / "config.yaml").exists())


def outcome_of(folder: Path) -> dict[str, Any]:
    """Give everything in a finished run folder but what the clock says: other files by hash."""
    timed = {
        path.relative_to(folder).as_posix(): without_seconds(read_json(path))
        for path in (folder / "summary.json", *(folder / "checkpoints").glob("*.json"))
    }
    timed["metrics.jsonl"] = [without_seconds(one) for one in read_lines(folder / "metrics.jsonl")]
    return {**content_of(folder), **timed}


def states_of(folder: Path) -> dict[str, Any]:
    """Give what `run_or_resume` kept of each stage: weights, optimiser, selection, rates."""
    found = {}
    for path in folder.with_name(f"{folder.name}-states").glob("*.pt"):
        found[path.stem] = _plain(torch.load(path, weights_only=True))
        del found[path.stem]["seconds"]
    return found


def _plain(value: Any) -> Any:
    """Make tensors into what `==` compares bit for bit."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
