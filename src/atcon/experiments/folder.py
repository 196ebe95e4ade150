"""A run folder: where each record lies, and whether a run may write into it."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from atcon import records
from atcon.errors import InputError
from atcon.experiments.config import changed_keys

PACKAGES = ("atcon", "torch", "torchvision", "lightning-fabric", "numpy", "scikit-learn", "timm")


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.yaml"

    @property
    def split(self) -> Path:
        """Which image is in which part."""
        return self.root / "split.json"

    @property
    def metrics(self) -> Path:
        """One line per epoch."""
        return self.root / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """The result; its presence marks a finished run."""
        return self.root / "summary.json"

    @property
    def last(self) -> Path:
        """What a resume needs, while a stage runs."""
        return self.root / "checkpoints" / "last.pt"

    def weights(self, stage: str) -> Path:
        """The selected weights of a stage."""
        return self.root / "checkpoints" / f"{stage}.safetensors"

    def stage(self, stage: str) -> Path:
        """How a stage went; its presence marks a finished stage."""
        return self.root / "checkpoints" / f"{stage}.json"

    def check(self, config_text: str, *, resume: bool) -> None:
        """See whether a run may write into the folder; writes nothing.

        Raises:
            InputError: It cannot be written, it holds something else, or a run that is finished,
                unfinished (and `resume` is not given) or of another configuration.
        """
        if self.summary.exists():
            raise InputError(f"{self.root} holds a finished run: choose another --out")
        if self.config.exists():
            self._check_resume(config_text, resume=resume)
            return
        if self.root.exists() and not self._is_free():
            raise InputError(f"{self.root} exists and is not an atcon run: choose another --out")
        nearest = next(
            place for place in (self.root, *self.root.absolute().parents) if place.exists()
        )
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            what = "cannot be written" if nearest.is_dir() else "is a file, not a folder"
            raise InputError(
                f"{self.root}: cannot write the run folder ({nearest} {what}): choose another --out"
            )

    def open(self, config_text: str, *, resume: bool) -> None:
        """Claim the folder for a run.

        Raises:
            InputError: As for `check`.
        """
        self.check(config_text, resume=resume)
        if self.config.exists():
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            records.write_text(self.config, config_text)
            records.write_json(self.root / "environment.json", environment())
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{self.root}: cannot write the run folder ({reason})") from error

    @contextmanager
    def claimed(self, config_text: str, *, resume: bool) -> Iterator[None]:
        """Open the folder for the length of a run; no unfinished write is left behind."""
        self.open(config_text, resume=resume)
        records.sweep(self.root)
        try:
            yield
        finally:
            records.sweep(self.root)

    def _version(self) -> str:
        """The version that began the run, where it says so."""
        try:
            return str(records.read_json(self.root / "environment.json")["packages"]["atcon"])
        except (InputError, KeyError, TypeError):
            return "of another version"

    def _is_free(self) -> bool:
        return self.root.is_dir() and all(map(records.is_leftover, self.root.iterdir()))

    def _check_resume(self, config_text: str, *, resume: bool) -> None:
        if not resume:
            raise InputError(
                f"{self.root} holds an unfinished run: add --resume to continue it, "
                "or choose another --out"
            )
        self.check_configuration(config_text)

    def check_configuration(self, config_text: str) -> None:
        """See whether the run here is one of this configuration.

        An older version wrote fewer keys: those have today's defaults.

        Raises:
            InputError: It is of another one, or of one that this version cannot read.
        """
        found = self.config.read_text(encoding="utf-8")
        if found == config_text:
            return
        try:
            changed = changed_keys(found, config_text, str(self.config))
        except InputError as error:
            raise InputError(
                f"{error}\n  this run was begun by atcon {self._version()}: continue with it"
            ) from None
        if changed:
            raise InputError(
                f"{self.config} differs from the configuration asked for in {', '.join(changed)}: "
                "continue with the same configuration and --set values, or choose another --out"
            )


def environment() -> dict[str, Any]:
    """Say what the run ran on."""
    import torch  # noqa: PLC0415  only a run needs it

    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
