"""The engine that submits nothing: a job array for Slurm, one task for each missing cell."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from atcon.errors import InputError
from atcon.experiments.config import DATA_VARIABLE
from atcon.experiments.engines.work import Ended, Options, Work
from atcon.experiments.grid import Cell
from atcon.experiments.progress import Progress

_KEY = re.compile(r"[a-z][a-z0-9-]*")
_VALUE = re.compile(r"[A-Za-z0-9_.:,=@%/+*\[\]()|&-]+")
_OURS = frozenset({"array", "job-name"})


def print_for_slurm(
    work: Work, cells: Sequence[Cell], options: Options, progress: Progress
) -> Ended:
    """Give an `sbatch` script for the cells.

    Raises:
        InputError: An option of `--sbatch` is not written as KEY=VALUE.
    """
    if not cells:
        progress.note("every cell is finished: there is nothing to submit")
        return Ended()
    return Ended(text=script_of(work, cells, options))


def script_of(work: Work, cells: Sequence[Cell], options: Options) -> str:
    """Write the script; whatever a name holds, the shell takes it for a word."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", work.experiment.name)
    head = [f"--job-name=atcon-{name}", f"--array=0-{len(cells) - 1}"]
    if options.threads is not None:
        head.append(f"--cpus-per-task={options.threads}")
    head += [_checked(option) for option in options.sbatch]
    lines = ["#!/usr/bin/env bash", *(f"#SBATCH {option}" for option in head)]
    lines += ["set -euo pipefail", f"cd {shlex.quote(str(Path.cwd()))}"]
    lines += ['export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"']
    if data := os.environ.get(DATA_VARIABLE):
        lines.append(f"export {DATA_VARIABLE}={shlex.quote(data)}")
    lines += ["cells=(", *(f"  {shlex.quote(cell.name)}" for cell in cells), ")"]
    command = " ".join(map(shlex.quote, _command(work)))
    lines.append(f'exec {command} --cell "${{cells[$SLURM_ARRAY_TASK_ID]}}"')
    return "\n".join(lines) + "\n"


def _command(work: Work) -> list[str]:
    beside = Path(sys.executable).with_name("atcon")
    sets = [word for override in work.overrides for word in ("--set", override)]
    flags = ["--keep-weights"] * work.keep_weights + ["--no-share"] * (not work.share)
    return [
        str(beside) if beside.exists() else "atcon",
        *("experiment", "run", *(work.source or (work.experiment.name,)), *sets),
        *("--out", str(work.out), "--results", str(work.results), *flags, "--quiet"),
    ]


def _checked(option: str) -> str:
    """Give an option of `sbatch`, which reads its lines without a shell."""
    key, separator, value = option.partition("=")
    if key in _OURS:
        raise InputError(f"--sbatch {option}: the script sets {key} itself")
    if not (separator and _KEY.fullmatch(key) and _VALUE.fullmatch(value)):
        raise InputError(
            f"--sbatch {option!r}: write it as KEY=VALUE without blanks, such as partition=gpu, "
            "time=02:00:00 or gpus=1"
        )
    return f"--{key}={value}"
