"""Supervised stages that runs share: kept once under the hash of all that they depend on."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import atcon
from atcon import records
from atcon.alone import alone
from atcon.data import Decoded
from atcon.errors import InputError
from atcon.experiments.arms import Arm
from atcon.experiments.bench import Bench
from atcon.experiments.stages import StageResult, run_stage

STAGE = "supervised"
VERSION = 1
"""Rises with every change of the code that changes what a supervised stage gives."""
_LATER = frozenset(
    {
        "name", "device", "strategy", "baselines", "consistency", "simclr", "laso", "fixmatch",
        "layer_attention", "variants", "controls", "evaluation",
    }
)  # fmt: skip
"""Keys of a configuration that a supervised stage does not look at; a new key is taken for one
that it does."""


def run_or_share(bench: Bench, name: str, arm: Arm, store: Path | None) -> StageResult:
    """Carry out a stage; the supervised one is taken from a store of them, or put into it.

    Of the runs that need the same stage at once, one trains it and the others wait.

    Args:
        bench: What it works on.
        name: Of the stage.
        arm: Its plan, and the stage it starts from.
        store: The folder of shared stages; None shares nothing.
    """
    shared = name == STAGE and arm.start is None and not bench.folder.stage(name).exists()
    if store is None or not (shared and bench.processes.first):  # the first one has the store
        return run_stage(bench, name, arm.plan, arm.start)
    settings = settings_of(bench)
    entry = Entry(store / _hash_of(settings))
    store.mkdir(parents=True, exist_ok=True)
    with alone(entry.root, lambda: bench.progress.note(f"{name}: another run trains it, waiting")):
        entry.mark_user(_experiment_of(bench))
        records.sweep(entry.root)
        if not entry.copy_to(bench):
            result = run_stage(bench, name, arm.plan, arm.start)
            entry.keep(bench, settings, result)
            return result
    return run_stage(bench, name, arm.plan, arm.start)  # reads what was copied


def settings_of(bench: Bench) -> dict[str, Any]:
    """Give all that a supervised stage depends on: settings, images, weights, device, versions."""
    device = bench.fabric.device
    on_gpu, later = device.type == "cuda", set(_LATER)
    if bench.config.supervised.monitored_images:  # by losses that these say
        later -= {"consistency", "evaluation"}
    return {
        "version": VERSION,
        "atcon": atcon.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "configuration": bench.config.model_dump(mode="json", exclude=later),
        "metric": bench.metric,
        "weights": _hash_of_weights(bench.pretrained),
        "train": _hash_of(_images(bench.train)),
        "validation": None if bench.validation is None else _hash_of(_images(bench.validation)),
    }


@dataclass(frozen=True)
class Entry:
    """A stage in the store: a folder with its weights, its record, and who uses it."""

    root: Path

    @property
    def weights(self) -> Path:
        """The selected weights."""
        return self.root / f"{STAGE}.safetensors"

    @property
    def record(self) -> Path:
        """How it went, with its lines of `metrics.jsonl`; its presence marks the entry as whole."""
        return self.root / f"{STAGE}.json"

    @property
    def users(self) -> Path:
        """A file for each experiment that uses it."""
        return self.root / "users"

    def mark_user(self, experiment: str) -> None:
        """Note that an experiment uses the entry."""
        self.users.mkdir(parents=True, exist_ok=True)
        (self.users / experiment).touch()

    def copy_to(self, bench: Bench) -> bool:
        """Put the stage into a run folder as if it had been trained there; False: it cannot be."""
        content = self._content(bench)
        if content is None:
            return False
        folder = bench.folder
        others = [line for line in records.read_lines(folder.metrics) if line["stage"] != STAGE]
        records.write_lines(folder.metrics, [*others, *content["lines"]])
        with records.whole_file(folder.weights(STAGE)) as part:
            shutil.copyfile(self.weights, part)
        result = {**content["result"], "reused_from": content["computed_by"]}
        records.write_json(folder.stage(STAGE), result)
        folder.last.unlink(missing_ok=True)
        bench.progress.note(f"{STAGE}: the stage of {content['computed_by']} is used again")
        return True

    def keep(self, bench: Bench, settings: Mapping[str, Any], result: StageResult) -> None:
        """Take a stage that was just trained into the store."""
        folder = bench.folder
        with records.whole_file(self.weights) as part:
            shutil.copyfile(folder.weights(STAGE), part)
        lines = [line for line in records.read_lines(folder.metrics) if line["stage"] == STAGE]
        records.write_json(
            self.record,
            {
                "computed_by": f"{_experiment_of(bench)}/{folder.root.name}",
                "settings": settings,
                "sha256": _hash_of_file(self.weights),
                "result": asdict(result),
                "lines": lines,
            },
        )

    def _content(self, bench: Bench) -> dict[str, Any] | None:
        """Read the record; a damaged entry is said, and counts as none."""
        if not self.record.exists():
            return None
        try:
            content = records.read_json(self.record)
            whole = content["sha256"] == _hash_of_file(self.weights)
        except (InputError, KeyError, OSError):
            whole = False
        if whole:
            return content
        bench.progress.note(f"{self.root}: damaged, so the stage is trained again")
        return None


def release(store: Path, experiment: str) -> None:
    """Remove the stages that no experiment but this one uses, once it is finished."""
    for users in sorted(store.glob("*/users")):
        (users / experiment).unlink(missing_ok=True)
        with suppress(_UsedError), alone(users.parent, _used):
            if not any(users.iterdir()):
                shutil.rmtree(users.parent)


class _UsedError(Exception):
    """A run looks at the entry now: it is or will be among the users."""


def _used() -> None:
    raise _UsedError


def _experiment_of(bench: Bench) -> str:
    return bench.folder.root.absolute().parent.name


def _images(part: Decoded) -> list[Any]:
    names = [example.name for example in part.examples]
    labels = part.labels.tolist()
    return [[name, part.hashes[name], label] for name, label in zip(names, labels, strict=True)]


def _hash_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _hash_of_weights(weights: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _hash_of_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
