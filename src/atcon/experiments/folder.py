"""A run folder: where each record lies, and whether a run may write into it."""

import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from atcon import records
from atcon.alone import TakenError, alone_now, is_taken, lock_of
from atcon.errors import AtconError, InputError, said
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
            InputError: It cannot be written, it holds something else, or a run that goes on now,
                is finished, unfinished (and `resume` is not given) or of another configuration.
        """
        if is_taken(self._run):
            raise _taken(self.root)
        self._check(config_text, resume=resume)

    def _check(self, config_text: str, *, resume: bool) -> None:
        if self.summary.exists():
            raise InputError(
                f"{self.root} holds a finished run, whose page {self._page} draws: choose another "
                "--out for a new one"
            )
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

    def how_to_go_on(self) -> str:
        """Complete the sentence "stopped; …"."""
        if self.summary.exists():
            return f"the run is finished: {self._page} draws its page"
        return f"continue with --resume --out {shlex.quote(str(self.root))}"

    @property
    def _page(self) -> str:
        return f"atcon report {shlex.quote(str(self.root))}"

    @contextmanager
    def claimed(self, config_text: str, *, resume: bool) -> Iterator[None]:
        """Hold the folder for the length of a run; no unfinished write is left behind.

        Raises:
            InputError: As for `check`.
            AtconError: Something cannot be written.
        """
        self.check(config_text, resume=resume)
        with self._begun():
            self.root.mkdir(parents=True, exist_ok=True)
        with only_writer(self.root, self._run):
            self._check(config_text, resume=resume)  # another run was perhaps faster
            with self._begun():
                self._open(config_text)
            with self._kept():
                yield

    @property
    def _run(self) -> Path:
        """What a run holds the lock of."""
        return self.root / "run"

    @contextmanager
    def _begun(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{self.root}: cannot write the run folder ({reason})") from error

    def _open(self, config_text: str) -> None:
        records.sweep(self.root)
        if not self.config.exists():
            records.write_json(self.root / "environment.json", environment())
            records.write_text(self.config, config_text)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Say of a file that cannot be written that the run is not lost."""
        try:
            yield
        except OSError as error:
            raise AtconError(
                f"{said(error)}; what was saved before is whole: once that is mended, "
                f"{self.how_to_go_on()}"
            ) from error
        finally:
            with suppress(OSError):  # of the file system that just failed
                records.sweep(self.root)

    def _version(self) -> str:
        """The version that began the run, where it says so."""
        try:
            return str(records.read_json(self.root / "environment.json")["packages"]["atcon"])
        except (InputError, KeyError, TypeError):
            return "of another version"

    def _is_free(self) -> bool:
        """Whether nothing lies here but what a killed run left before it began."""
        first = {self.root / "environment.json", lock_of(self._run)}
        return self.root.is_dir() and all(
            path in first or records.is_leftover(path) for path in self.root.iterdir()
        )

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


@contextmanager
def only_writer(folder: Path, lock: Path) -> Iterator[None]:
    """Be the only process that writes into a folder, by the lock of a path.

    Raises:
        InputError: Another one does so now.
    """
    with ExitStack() as held:
        try:
            held.enter_context(alone_now(lock))
        except TakenError:
            raise _taken(folder) from None
        yield


def _taken(folder: Path) -> InputError:
    return InputError(
        f"{folder}: another process writes into this folder now: wait for its end, or choose "
        "another --out"
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
