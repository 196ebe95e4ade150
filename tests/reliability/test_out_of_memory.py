"""Promise 15: where memory runs out the micro-batch halves, and the effective gradient is the same.

There is no GPU: a hook raises PyTorch's error where a network sees more images than fit.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

import pytest
import torch
from nets import gradients
from pipeline import atcon, sets, tiny
from safetensors.torch import load_file
from training import IMAGES, Plain, Stage, batches_of, furthest, without_dropout

from atcon.consistency import ConsistencyLoss, MaskOptions
from atcon.consistency import loss as losses
from atcon.errors import AtconError
from atcon.experiments import bench, judge
from atcon.experiments.launch import launch
from atcon.experiments.progress import Progress
from atcon.experiments.run import run
from atcon.records import read_lines
from atcon.training import (
    Addend,
    Batch,
    Relief,
    consistency_step,
    divided,
    every_batch,
    halve_largest,
    in_parts,
)
from atcon.training import steps as training_steps

RANDOM = {"mask_options": MaskOptions(strength=(0.2, 1.0), temperature=(0.5, 2.0), noise=1.0)}
"""Masks of which everything is drawn."""


def out_of_memory():
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nAnd more.")


@contextmanager
def room_for(model, images, *, training=None) -> Iterator[list[int]]:
    """Let no more images than these fit into a pass; give how many there were each time not.

    Args:
        model: Whose passes are counted.
        images: How many fit.
        training: Only of passes in this mode.
    """
    refused: list[int] = []

    def look(module, inputs):
        counts = training is None or module.training == training
        if counts and len(inputs[0]) > images:
            refused.append(len(inputs[0]))
            raise out_of_memory()

    handle = model.register_forward_pre_hook(look)
    try:
        yield refused
    finally:
        handle.remove()


def relief_of(stage):
    losses = [stage.maps, stage.labels] if stage.kind == "combined" else [stage.maps]
    if stage.kind == "supervised":
        losses = [stage.labels]
    draws = () if stage.maps.generator is None else (stage.maps.generator,)
    return Relief(lambda: halve_largest(losses) is not None, draws)


def prepared(kind, dtype=torch.float64, *, draws=False, dropout=True):
    options = {"generator": torch.Generator().manual_seed(3), **RANDOM} if draws else {}
    stage = Stage(kind, dtype=dtype, size=IMAGES, options=options)
    if not dropout:
        without_dropout(stage.model)
    return stage


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("fit", "tries"), [(4, [8]), (3, [8, 4]), (1, [8, 4, 2])])
def test_the_effective_gradient_is_that_of_the_whole_batch(dtype, near, fit, tries):
    batch = next(iter(batches_of(dtype, IMAGES)(1)))
    expected, found = prepared("fine_tuning", dtype), prepared("fine_tuning", dtype)
    expected.maps(batch.images).backward()
    with room_for(found.model, fit) as refused:
        for _ in range(len(tries) + 1):
            try:
                value = found.maps(batch.images)
            except torch.OutOfMemoryError:
                size = found.maps.halve()
        value.backward()
        assert found.maps.micro_batch == size <= fit
    assert refused == tries
    wanted, got = gradients(expected.model), gradients(found.model)
    size = max(float(gradient.abs().max()) for gradient in wanted.values())
    assert furthest(got, wanted) <= near * min(size, 1.0)


STAGES = [
    pytest.param("fine_tuning", False, id="consistency"),
    pytest.param("fine_tuning", True, id="random masks"),
    pytest.param("combined", True, id="combined"),
    pytest.param("supervised", False, id="supervised"),
]


@pytest.mark.parametrize(("kind", "draws"), STAGES)
def test_training_goes_on_as_if_there_had_been_room(kind, draws):
    """Dropout, in the passes that fit, and the masks draw again what they drew."""
    whole, stage = (prepared(kind, draws=draws, dropout=kind == "combined") for _ in range(2))
    whole.train(3)
    start = prepared(kind).weights()
    room = 4 if kind == "combined" else 3
    with room_for(stage.model, room, training=kind == "supervised") as refused:
        stage.train(3, relief=relief_of(stage))
    assert refused == [8, 4][: 5 - room]  # the parts stay small
    assert furthest(stage.weights(), whole.weights()) <= 1e-9
    assert furthest(whole.weights(), start) > 1e-3
    for ours, theirs in zip(stage.notes.epochs, whole.notes.epochs, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-9)


class ShortOnce(Plain):
    """Runs out of memory at the end of the first backward pass, when gradients are there."""

    def __init__(self):
        self.failed = False

    def backward(self, tensor):
        tensor.backward()
        if not self.failed:
            self.failed = True
            raise out_of_memory()


@pytest.mark.parametrize(("kind", "draws"), STAGES)
def test_gradients_of_a_pass_that_was_cut_short_are_dropped(kind, draws):
    whole, stage = (prepared(kind, draws=draws, dropout=False) for _ in range(2))
    whole.train(1)
    stage.train(1, backend=ShortOnce(), relief=relief_of(stage))
    assert furthest(stage.weights(), whole.weights()) <= 1e-9
    assert (stage.labels if kind == "supervised" else stage.maps).micro_batch == IMAGES // 2


@pytest.mark.parametrize("kind", ["fine_tuning", "supervised", "combined"])
def test_memory_that_is_not_enough_for_one_image_ends_the_stage_and_keeps_what_was_saved(kind):
    stage = prepared(kind).train(1)
    saved, before = list(stage.saved), stage.weights()
    with (
        room_for(stage.model, 0),
        pytest.raises(
            AtconError, match=r"ran out in a step on 8 images, .* lower batch_size"
        ) as said,
    ):
        stage.train(2, relief=relief_of(stage))
    assert "CUDA out of memory. Tried to allocate 2.00 GiB" in str(said.value)
    assert "And more" not in str(said.value)
    assert stage.saved == saved
    assert furthest(stage.weights(), before) == 0


def test_images_that_interact_are_not_taken_apart():
    stage = Stage("supervised", size=IMAGES, batch_norm="batch")
    with room_for(stage.model, 4) as refused, pytest.raises(AtconError, match="smaller parts"):
        stage.train(1, relief=relief_of(stage))
    assert refused == [8]
    with pytest.warns(UserWarning, match="samples interact"):
        loss = ConsistencyLoss(stage.model, batch_statistics=True)
    loss(next(iter(batches_of(torch.float64)(1))).images)
    assert loss.halve() is None
    assert loss.micro_batch is None


def test_of_two_losses_the_larger_part_is_halved_and_of_equals_the_first():
    stage = Stage("combined")
    for loss, images in ((stage.maps, 4), (stage.labels, 8)):
        batch = next(iter(batches_of(torch.float64, images)(1)))
        loss(batch.images, *([batch.labels] if loss is stage.labels else []))
    sizes = []
    while (size := halve_largest([stage.maps, stage.labels])) is not None:
        sizes.append((size, stage.maps.taken, stage.labels.taken))
    assert sizes == [(4, 4, 4), (2, 2, 4), (2, 2, 2), (1, 1, 2), (1, 1, 1)]


def test_a_loss_that_was_never_called_has_nothing_to_halve():
    stage = Stage()
    assert stage.maps.halve() is None
    assert stage.labels.halve() is None


def _trained(room, processes, _progress=None):
    """Three epochs on parts of batches; in the second process there is room for one image."""
    stage = Stage(size=IMAGES)
    ours = Addend(stage.maps)
    step = divided(consistency_step(ours, stage.maps), ours)

    def batches(epoch):
        for batch in batches_of(torch.float64, IMAGES)(epoch):
            part = processes.part(IMAGES)
            share = len(batch.names[part]) / IMAGES
            yield Batch(batch.images[part], batch.labels[part], batch.names[part], share=share)

    with room_for(stage.model, IMAGES if processes.first else room) as refused:
        stage.train(3, every_batch(step, batches), processes=processes, relief=relief_of(stage))
    halved = len(refused)
    counts = [None] * processes.count
    torch.distributed.all_gather_object(counts, halved)
    return {name: value.numpy() for name, value in stage.weights().items()}, counts


@pytest.mark.slow
def test_of_several_processes_each_halves_its_own_part_and_all_go_on():
    weights, counts = launch(partial(_trained, 1), 2, Progress(), on_gpu=False)
    assert counts == [0, 2]
    found = {name: torch.from_numpy(value) for name, value in weights.items()}
    assert furthest(found, Stage(size=IMAGES).train(3).weights()) <= 1e-9


class _Noting(Progress):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


EXACT = (
    "precision=64-true",
    "consistency.mask_strength=[0.2, 1]",
    "consistency.mask_noise=1",
    "consistency.teacher=0.9",
    "consistency.batch_size=5",
    "consistency.lr=1e-3",
    "evaluation.gallery=0",
)


@pytest.mark.slow
def test_a_run_goes_on_with_smaller_parts_says_so_and_ends_alike(tmp_path, monkeypatch):
    """Memory runs out in a later step; the teacher, which follows before it, follows once."""
    run(tiny(*EXACT), tmp_path / "whole")
    compare, refused, calls = losses.compare, [], count(1)

    def compare_two(model, images, *given, **options):
        if options["create_graph"] and next(calls) > 4 and len(images) > 2:
            refused.append(len(images))
            raise out_of_memory()
        return compare(model, images, *given, **options)

    monkeypatch.setattr(losses, "compare", compare_two)
    progress = _Noting()
    run(tiny(*EXACT), tmp_path / "run", progress=progress)
    assert len(refused) == 4  # twice in the stage of the method, and in that of the control
    for stage in ("consistency", "uniform"):
        assert f"{stage}: out of memory, so it goes on with 2 images at a time" in progress.said
        ours, theirs = (
            load_file(tmp_path / name / "checkpoints" / f"{stage}.safetensors")
            for name in ("run", "whole")
        )
        assert furthest(ours, theirs) <= 1e-9
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    parts = {line["stage"]: line.get("micro_batch") for line in lines}
    assert parts == {"supervised": None, "consistency": 2, "uniform": 2}


@pytest.mark.parametrize(("count", "size", "room"), [(7, 3, 9), (7, 7, 2), (5, 4, 1), (0, 3, 1)])
def test_what_is_evaluated_is_taken_in_parts_that_there_is_room_for(count, size, room):
    def take(part):
        if part.stop - part.start > room:
            raise out_of_memory()
        return list(range(count))[part]

    taken = list(in_parts(take, count, size))
    assert [number for _, numbers in taken for number in numbers] == list(range(count))
    assert all(numbers == list(range(count))[part] for part, numbers in taken)
    assert max((len(numbers) for _, numbers in taken), default=0) <= min(size, room)


def test_where_there_is_no_room_for_one_image_that_is_said():
    def take(part):
        raise out_of_memory()

    with pytest.raises(AtconError, match=r"ran out on one image: free the device \(CUDA out of "):
        list(in_parts(take, 3, 3))


@pytest.mark.slow
def test_a_run_is_evaluated_in_smaller_parts_and_ends_alike(tmp_path, monkeypatch):
    own = (
        "controls.uniform=false",
        "consistency.epochs=1",
        "evaluation.batch_size=5",
        "evaluation.consistency_images=11",
    )
    run(tiny(*EXACT, *own), tmp_path / "whole")
    refused = set()

    def room_for_two(what, plain):
        def called(*given, **options):
            if max(map(len, filter(torch.is_tensor, given))) > 2:
                refused.add(what)
                raise out_of_memory()
            return plain(*given, **options)

        return called

    monkeypatch.setattr(bench, "logits_of", room_for_two("validation", bench.logits_of))
    monkeypatch.setattr(judge, "trace", room_for_two("one map", judge.trace))
    monkeypatch.setattr(
        ConsistencyLoss, "compare", room_for_two("all maps", ConsistencyLoss.compare)
    )
    run(tiny(*EXACT, *own), tmp_path / "run")
    assert refused == {"validation", "one map", "all maps"}
    for stage in ("supervised", "consistency"):
        for table in (f"predictions/{stage}.csv", f"localisation/{stage}.csv"):
            ours, theirs = (read_table(tmp_path / name / table) for name in ("run", "whole"))
            assert [row["name"] for row in ours] == [row["name"] for row in theirs]
            for mine, other in zip(ours, theirs, strict=True):
                assert mine.keys() == other.keys()
                for column, value in mine.items():
                    assert alike(value, other[column]), column


def read_table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def alike(one, other):
    try:
        return one == other or float(one) == pytest.approx(float(other), abs=2e-6)
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (out_of_memory(), "the memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB.): "),
        (MemoryError(), "the memory ran out (of the machine): free some"),
    ],
)
def test_no_command_ends_in_a_traceback_where_memory_runs_out(error, says, monkeypatch):
    def fails():
        raise error

    monkeypatch.setattr("atcon.cli.app.app", fails)
    ended = atcon("attend")
    assert (ended.code, says in ended.err, "Traceback" in ended.err) == (1, True, False)


def test_another_error_of_a_run_is_not_taken_for_it(monkeypatch):
    def fails():
        raise RuntimeError("another one")

    monkeypatch.setattr("atcon.cli.app.app", fails)
    with pytest.raises(RuntimeError, match="another one"):
        atcon("attend")


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["frozen", "batch"])
def test_the_supervised_stage_of_a_run_takes_parts_unless_images_interact(
    policy, tmp_path, monkeypatch
):
    plain = training_steps.logits_of

    def logits_of_two(output):
        if len(output) > 2 and torch.is_grad_enabled():
            raise out_of_memory()
        return plain(output)

    monkeypatch.setattr(training_steps, "logits_of", logits_of_two)
    overrides = (f"supervised.batch_norm={policy}", "controls.uniform=false")
    ended = atcon("run", "digits", *sets(*overrides), "--out", tmp_path / "run")
    if policy == "frozen":
        assert ended.code == 0, ended.err
        assert "out of memory, so it goes on with 2 images at a time" in ended.out + ended.err
    else:
        assert ended.code == 1
        assert "cannot be taken in smaller parts" in " ".join(ended.err.split())
        assert "Traceback" not in ended.err
