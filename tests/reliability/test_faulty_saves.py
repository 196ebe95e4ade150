"""Promise 2: whatever fails in a save, the last whole checkpoint loads and no litter stays."""

import os
import shutil
import signal

import pytest
import torch
from faults import DeadError, dying, failing, full_disk, killed_after, unfinished_writes, watched
from torch import nn

from atcon import records
from atcon.experiments.folder import RunFolder
from atcon.experiments.stages import _write_state
from atcon.models import load_weights, save_weights

STAGE = "supervised"
KNOWN = {"config.yaml", "environment.json", "metrics.jsonl", "checkpoints"}


def network_of(number):
    network = nn.Linear(40, 20)
    for weight in network.parameters():
        nn.init.constant_(weight, number)
    return network


def save(folder, number):
    """Write all that a run writes at the end of a round and of a stage."""
    records.append_line(folder.metrics, {"stage": STAGE, "epoch": number})
    with records.whole_file(folder.last) as part:
        _write_state({"epoch": number, "model": network_of(number).state_dict()}, part)
    with records.whole_file(folder.weights(STAGE)) as part:
        save_weights(network_of(number), part)
    records.write_json(folder.stage(STAGE), {"epoch": number})


def saved_in(folder):
    """Load what is there; every file must be whole."""
    state = torch.load(folder.last, weights_only=True)
    load_weights(read := network_of(0), folder.weights(STAGE))
    of_weights, number = int(read.bias[0]), state["epoch"]
    assert torch.equal(state["model"]["weight"], network_of(number).weight.detach())
    assert torch.equal(read.weight, network_of(of_weights).weight)
    lines = [line["epoch"] for line in records.read_lines(folder.metrics)]
    return number, of_weights, records.read_json(folder.stage(STAGE))["epoch"], lines


def assert_survived(root):
    """Hold that one save or the other is whole, and that a restart removes what is left."""
    folder = RunFolder(root)
    *epochs, lines = saved_in(folder)
    assert sorted(epochs, reverse=True) == epochs
    assert set(epochs) <= {1, 2}
    assert lines in ([1], [1, 2])
    assert len(lines) >= epochs[0]
    with folder.claimed("a: 1\n", resume=True):
        assert unfinished_writes(root) == [".run.lock"]
        records.write_lines(folder.metrics, records.read_lines(folder.metrics))
        save(folder, 3)
    assert not unfinished_writes(root)
    assert {path.name for path in root.iterdir()} == KNOWN
    assert saved_in(folder)[:3] == (3, 3, 3)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run folder with one save."""
    root = tmp_path_factory.mktemp("first") / "run"
    with RunFolder(root).claimed("a: 1\n", resume=False):
        save(RunFolder(root), 1)
    return root


@pytest.fixture(scope="module")
def calls(first):
    """What the second save asks of the system, in order."""
    root, found = first.with_name("counted"), []
    shutil.copytree(first, root)
    with watched(root, lambda name, path: found.append((name, path.name))):
        save(RunFolder(root), 2)
    return found


def test_a_file_is_on_the_disk_before_its_name_and_the_name_before_the_save_goes_on(calls):
    named = [place for place, (name, _) in enumerate(calls) if name == "replace"]
    assert len(named) == 3
    for place in named:
        part = calls[place][1]
        (synced,) = (i for i, call in enumerate(calls) if call == ("fsync", part))
        written = [i for i, call in enumerate(calls) if call == ("write", part)]
        assert all(i < synced < place for i in written)  # safetensors writes unseen
        after = [name for name, file in calls[place:] if file == "checkpoints"]
        assert after[:2] == ["open", "fsync"]


@pytest.mark.parametrize("fault", [failing, dying])
def test_a_fault_at_any_call_of_a_save_leaves_a_whole_checkpoint(first, calls, fault, tmp_path):
    assert len(calls) >= 25
    for number in range(len(calls)):
        root = tmp_path / str(number)
        shutil.copytree(first, root)
        with watched(root, fault(number)), pytest.raises((OSError, DeadError)):
            save(RunFolder(root), 2)
        assert_survived(root)


def sizes_of(folder):
    return [path.stat().st_size for path in (folder.last, folder.weights(STAGE))]


def test_a_disk_that_is_full_at_any_byte_of_a_save_leaves_a_whole_checkpoint(first, tmp_path):
    most = max(sizes_of(RunFolder(first)))
    for room in range(0, most, most // 10):
        root = tmp_path / str(room)
        shutil.copytree(first, root)
        with full_disk(room), pytest.raises(OSError, match="too large") as raised:
            save(RunFolder(root), 2)
        assert not unfinished_writes(root)
        if room > 1000:  # the lines are longer than the disk before
            assert raised.value.filename in {
                str(RunFolder(root).last), str(RunFolder(root).weights(STAGE))
            }  # fmt: skip
        assert_survived(root)


def save_and_die(root, number):
    """Get SIGKILL at a call of the save."""
    numbers = iter(range(10**6))

    def before(*_call):
        if next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    with watched(root, before):
        save(RunFolder(root), 2)


def save_until(root, room):
    """Be killed by the kernel in the middle of a write, at this byte of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    with full_disk(room):
        save(RunFolder(root), 2)


@pytest.mark.slow
@pytest.mark.parametrize("death", [save_and_die, save_until])
def test_a_process_that_dies_anywhere_in_a_save_leaves_a_whole_checkpoint(
    first, calls, death, tmp_path
):
    most = max(sizes_of(RunFolder(first)))
    moments = range(len(calls)) if death is save_and_die else range(0, most, most // 40)
    for moment in moments:
        root = tmp_path / str(moment)
        shutil.copytree(first, root)
        assert killed_after(60, death, root, moment), moment
        assert_survived(root)
