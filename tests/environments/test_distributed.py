"""Two processes that share a batch take the steps of one that has it whole."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "support" / "two_processes.py"
NEAR = {"float32": 1e-6, "float64": 1e-12}

SHARED = {
    "the usual": [
        "ddp/default/float32",
        "ddp/default/float64",
        "fsdp/default/float64",
        "fsdp parts/default/float64",
    ],
    "ddp, the rest": [
        "ddp/supervised too/float64",
        "ddp/paper/float64",
        "ddp/checkpointed/float64",
        "ddp/micro-batches/float64",
        "ddp static/default/float64",
    ],
    "fsdp, the rest": [
        "fsdp/default/float32",
        "fsdp/paper/float64",
        "fsdp/checkpointed/float64",
        "fsdp/supervised too/float64",
        "fsdp parts/default/float32",
    ],
    "fsdp parts, the rest": [
        "fsdp parts/paper/float64",
        "fsdp parts/checkpointed/float64",
        "fsdp parts/micro-batches/float64",
        "fsdp parts/supervised too/float64",
        "fsdp parts/supervised last/float64",
    ],
}
WAYS = [pytest.param(way, marks=pytest.mark.slow if "rest" in way else ()) for way in SHARED]

MISUSES = {
    "misuse/unused unknown/-": "InputError: .* pass it find_unused_parameters=True",
    "misuse/model wrapped/-": "InputError: .* wrap the loss instead",
    "misuse/loss not sharded/-": r"InputError: .* fully_shard\(ConsistencyLoss\(net\)\)",
    "misuse/outside/-": "^the network is wrapped .* gradients are not averaged",
    "misuse/alone/-": "^$",
}


def in_two_processes(cases: list[str], folder: Path) -> list[dict[str, object]]:
    folders = os.pathsep.join(str(ROOT / part) for part in ("src", "tests/support"))
    environment = {**os.environ, "PYTHONPATH": folders, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(  # noqa: S603  ours
            [sys.executable, str(PROGRAM), str(rank), "2", str(folder), *cases],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("way", WAYS)
def test_ten_steps_equal_those_of_one_process(way, tmp_path):
    found = in_two_processes(SHARED[way], tmp_path)
    for case in SHARED[way]:
        _, task, dtype = case.split("/")
        expected = two_processes.train(
            task, two_processes.DTYPES[dtype], two_processes.bare, slice(0, 4)
        )
        start = dict(two_processes.TASKS[task](two_processes.DTYPES[dtype]).named_parameters())
        assert max(float((w - start[n].detach()).abs().max()) for n, w in expected.items()) > 0.1
        for rank in range(2):
            weights = found[rank][case]
            assert isinstance(weights, dict), f"{case}: {weights}"
            assert weights.keys() == expected.keys()
            for name, weight in expected.items():
                error = float((weights[name] - weight).abs().max())
                assert error <= NEAR[dtype], f"{case}, {name}, process {rank}: {error}"


@pytest.mark.slow
def test_misuse_is_named_with_a_way_out(tmp_path):
    found = in_two_processes(list(MISUSES), tmp_path)
    for case, pattern in MISUSES.items():
        for rank in range(2):
            assert re.search(pattern, str(found[rank][case])), f"{case}: {found[rank][case]}"
