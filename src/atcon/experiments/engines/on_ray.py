"""The engine of a Ray cluster: every cell is a task in a process of its own."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atcon.errors import InputError
from atcon.experiments.config import DATA_VARIABLE
from atcon.experiments.engines.handing_out import hand_out, lost
from atcon.experiments.engines.work import Ended, Options, Outcome, Work
from atcon.experiments.grid import Cell
from atcon.experiments.progress import Progress

_ADDRESS = "auto"
_STATISTICS = "RAY_USAGE_STATS_ENABLED"


def run_on_ray(work: Work, cells: Sequence[Cell], options: Options, progress: Progress) -> Ended:
    """Compute cells on the machines of a Ray cluster, as many at once as it has room for.

    A worker that is lost, with its machine or alone, loses one cell the rounds since the last save;
    the cell is tried again. All machines must see the folders under the same paths.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """
    ray = _ray()
    began = not ray.is_initialized()
    if began:
        _connect(ray, options.address or _ADDRESS)
    try:
        workers = _Tasks(ray, work, options)
        return hand_out(workers, work, cells, options.retries, progress)
    finally:
        if began:
            ray.shutdown()


def _ray() -> Any:
    """Import Ray, which tells nobody of its use."""
    os.environ[_STATISTICS] = "0"
    try:
        import ray  # noqa: PLC0415  an extra
    except ModuleNotFoundError:
        raise InputError("--engine ray needs Ray: pip install 'atcon[ray]'") from None
    return ray


def _connect(ray: Any, address: str) -> None:
    """Join a cluster; `local` starts one on this machine for the length of the run."""
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"--address {address}: no Ray cluster answers there ({reason}); start one with "
            "`ray start --head --include-dashboard=false`, or give --address local"
        ) from error


class _Tasks:
    """Workers that are tasks of a cluster, which queues those that it has no room for."""

    def __init__(self, ray: Any, work: Work, options: Options) -> None:
        needs = {"num_cpus": options.threads or 1, "num_gpus": options.gpus or 0}
        # one process for each task, and no try of Ray's own, which would be unseen
        self.task = ray.remote(max_calls=1, max_retries=0, **needs)(_serve)
        self.ray, self.work, self.most = ray, work, options.workers
        self.surroundings = {"OMP_NUM_THREADS": str(needs["num_cpus"])}
        if DATA_VARIABLE in os.environ:
            self.surroundings[DATA_VARIABLE] = os.environ[DATA_VARIABLE]
        self.running: dict[Any, Cell] = {}

    def is_free(self) -> bool:
        """Whether another cell may be started."""
        return self.most is None or len(self.running) < self.most

    def start(self, cell: Cell) -> None:
        """Hand a cell to the cluster."""
        task = self.task.remote(self.work, cell, str(Path.cwd()), self.surroundings)
        self.running[task] = cell

    def wait(self) -> list[tuple[Cell, Outcome]]:
        """Wait until a task ends."""
        ready, _ = self.ray.wait(list(self.running), num_returns=1)
        return [(self.running.pop(task), self._outcome(task)) for task in ready]

    def stop(self) -> None:
        """End all tasks; what they saved is continued by the next run."""
        for task in self.running:
            self.ray.cancel(task, force=True)

    def _outcome(self, task: Any) -> Outcome:
        try:
            outcome: Outcome = self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            return lost(f"its Ray worker was lost ({type(error).__name__}: {reason})")
        return outcome


def _serve(work: Work, cell: Cell, folder: str, surroundings: Mapping[str, str]) -> Outcome:
    """Compute one cell on whichever machine this is."""
    os.environ.update(surroundings)
    os.chdir(folder)
    from atcon.experiments.engines.cell import compute  # noqa: PLC0415  torch, with its threads

    return compute(work, cell, Progress())
