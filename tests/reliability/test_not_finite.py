"""Promise 8: what is not finite is neither learnt, kept nor saved, and its image is named.

NaN and infinities are put into an image, a loss and a gradient in each kind of training.
"""

from dataclasses import replace
from functools import cache, partial
from itertools import count, product

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from pipeline import atcon, sets, tiny
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.valuerep import DSfloat
from safetensors.torch import load_file
from training import Stage, furthest, tensors_of

from atcon.consistency import CORRELATIONS, PRESETS, ConsistencyLoss
from atcon.data import ImageSet, Reader, load, read_image
from atcon.errors import AtconError, BadImageError
from atcon.experiments import method_arms
from atcon.experiments.launch import launch
from atcon.experiments.progress import Progress
from atcon.experiments.run import run
from atcon.training import (
    Addend,
    Batch,
    Outcome,
    combined,
    consistency_step,
    divided,
    supervised_step,
)
from atcon.types import Example

NAN, INFINITY = float("nan"), float("inf")
BAD = "5.png"
KINDS = ("supervised", "fine_tuning", "combined", "alternated")


def steep(loss, value):
    """The same loss, whose gradient is not finite."""

    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * value

    return Steep.apply(loss)


def spoilt(stage, where, value, *, epoch=2):
    """Spoil one image, or what a step makes of it, from an epoch on."""
    at = [0]

    def around(step):
        def spoiling(batch):
            if at[0] < epoch or BAD not in batch.names:
                return step(batch)
            if where == "image":
                images = batch.images.clone()
                images[batch.names.index(BAD), 0, 3, 4] = value
                return step(replace(batch, images=images))
            outcome = step(batch)
            loss = outcome.loss * value if where == "loss" else steep(outcome.loss, value)
            return Outcome(loss, outcome.logged)

        return spoiling

    steps = stage.schedule(around)

    def schedule(number):
        at[0] = number
        return steps(number)

    return schedule


CASES = tuple(product(KINDS, ("image", "loss", "gradient"), (NAN, INFINITY, -INFINITY)))
FIRST = (CASES[0], CASES[14], CASES[24], CASES[28])
"""One of each kind; the others are slow."""


@pytest.fixture(scope="module")
def whole():
    """What nothing spoils, by the kind of training; made once."""
    return cache(lambda kind: Stage(kind).train(2))


@pytest.mark.parametrize(
    ("kind", "where", "value"),
    [pytest.param(*case, marks=() if case in FIRST else pytest.mark.slow) for case in CASES],
)
def test_a_step_that_is_not_finite_names_its_image_and_is_not_taken(kind, where, value, whole):
    whole = whole(kind)
    stage = Stage(kind)
    with pytest.raises(AtconError, match=r"^the (loss|gradient) became -?(nan|inf) on ") as said:
        stage.train(2, spoilt(stage, where, value))
    named = str(said.value).partition(" on ")[2].partition(":")[0].split(", ")
    assert BAD in named
    if kind != "combined":  # whose labelled and unlabelled images meet in one loss
        assert named == [BAD]
    assert "the last saved epoch is intact" in str(said.value)
    assert len(stage.saved) == 1
    assert all(map(torch.equal, tensors_of(stage.saved[0]), tensors_of(whole.saved[0])))
    assert all(bool(value.isfinite().all()) for value in stage.weights().values())
    resumed = Stage(kind).resume(stage.saved[-1]).train(2)
    assert furthest(resumed.weights(), whole.weights()) == 0


@pytest.mark.parametrize("spoilt_side", ["labelled", "unlabelled"])
def test_where_the_images_of_two_batches_meet_those_of_both_are_named(spoilt_side):
    """Infinite pixels are found in the first; of the second all images are named."""
    stage = Stage("combined")
    first, second = (batch for _, batch in Stage("supervised").schedule()(1))
    spoiled = first if spoilt_side == "labelled" else second
    spoiled.images[2, 1, 0, 0] = INFINITY
    schedule = combined(
        supervised_step(stage.labels),
        consistency_step(stage.maps, stage.maps),
        labelled=lambda _epoch: [first],
        unlabelled=lambda _epoch: [second],
    )
    with pytest.raises(AtconError, match=r" became nan on ") as said:
        stage.train(1, schedule)
    named = str(said.value).partition(" on ")[2].partition(":")[0].split(", ")
    both = [*first.names, *second.names]
    assert named == ([first.names[2]] if spoilt_side == "labelled" else both)


def test_a_gradient_whose_squares_overflow_would_spoil_the_optimiser():
    stage = Stage(dtype=torch.float32)
    with pytest.raises(AtconError, match="the gradient became inf"):
        stage.train(2, spoilt(stage, "gradient", 1e30))
    assert len(stage.saved) == 1


@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize("what", ["stages.0.1.running_var", "head.fc.weight"])
def test_what_steps_leave_behind_is_looked_at_before_it_is_kept(what, value):
    stage = Stage()
    steps = stage.schedule()

    def schedule(epoch):
        yield from steps(epoch)
        if epoch == 2:
            stage.model.state_dict()[what].view(-1)[0] = value

    with pytest.raises(AtconError, match=rf"model\.{what} holds values that are not finite after"):
        stage.train(2, schedule)
    assert len(stage.saved) == 1
    assert all(bool(tensor.isfinite().all()) for tensor in tensors_of(stage.saved[0]))
    assert stage.state.selection.epoch == 1


def test_a_start_that_is_not_finite_is_said_to_be_that_and_no_image_is_blamed():
    stage = Stage()
    stage.model.stages[1][0].weight.data[0] = NAN
    with pytest.raises(AtconError, match=r"model\.stages\.1\.0\.weight holds .* after 0 epochs"):
        stage.train(1)
    assert stage.saved == []


def test_under_a_scaler_an_overflow_leaves_the_step_out_and_the_next_ones_are_taken():
    fabric = Fabric(accelerator="cpu", plugins=MixedPrecision("16-mixed", "cpu"))
    stage = Stage("supervised", dtype=torch.float32)
    stage.state.optimizer = fabric.setup_optimizers(stage.state.optimizer)
    start, seen = stage.weights(), []

    def schedule(epoch):
        for step, batch in spoilt(stage, "gradient", INFINITY if epoch == 1 else 1.0, epoch=1)(
            epoch
        ):
            yield step, batch
            seen.append((BAD in batch.names and epoch == 1, furthest(stage.weights(), start)))

    stage.train(2, schedule, backend=fabric, scaled=True)
    moved = [0.0, *(distance for _, distance in seen)]
    for (spoils, after), before in zip(seen, moved, strict=False):
        assert (after == before) == spoils
    assert fabric.strategy.precision.scaler.get_scale() == 2.0**15


def test_under_a_scaler_a_long_row_of_overflows_is_no_matter_of_scale_and_ends_the_run():
    fabric = Fabric(accelerator="cpu", plugins=MixedPrecision("16-mixed", "cpu"))
    stage = Stage("supervised", dtype=torch.float32)
    stage.state.optimizer = fabric.setup_optimizers(stage.state.optimizer)
    start, taken = stage.weights(), []

    def schedule(epoch):
        for step, batch in spoilt(stage, "gradient", INFINITY, epoch=epoch)(epoch):
            if BAD in batch.names:
                taken.append(epoch)
                yield step, batch

    with pytest.raises(AtconError, match=f"became nan for the 25th step in a row on {BAD}: "):
        stage.train(100, schedule, backend=fabric, scaled=True)
    assert len(taken) == 25
    assert furthest(stage.weights(), start) == 0


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize(
    ("preset", "correlation", "value"),
    [
        *zip(PRESETS, CORRELATIONS, (NAN, INFINITY, -INFINITY), strict=False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in product(PRESETS, CORRELATIONS, (NAN, INFINITY, -INFINITY))
        ),
    ],
)
def test_the_loss_of_an_image_that_is_not_finite_is_nan_and_says_which(
    micro_batch, preset, correlation, value
):
    options = {"micro_batch": micro_batch, "preset": preset, "correlation": correlation}
    stage = Stage(options=options)
    batch = next(iter(stage.schedule()(1)))[1]
    images = batch.images.clone()
    expected = stage.maps(images).detach()
    alone = stage.maps.details.correlation
    images[2, 0, 3, 4] = value
    assert bool(expected.isfinite())
    assert bool(stage.maps(images).detach().isnan())
    found = stage.maps.details.correlation
    assert found.isnan().tolist() == [False, False, True, False]
    torch.testing.assert_close(found[[0, 1, 3]], alone[[0, 1, 3]])


def test_the_loss_of_a_network_that_diverged_is_nan_though_its_maps_look_constant():
    stage = Stage()
    stage.model.stages[1][0].weight.data.fill_(NAN)
    batch = next(iter(stage.schedule()(1)))[1]
    assert bool(ConsistencyLoss(stage.model, "stages.2")(batch.images).isnan())


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (torch.full((3, 9, 9), NAN), "values that are not finite"),
        (torch.full((3, 9, 9), INFINITY), "values that are not finite"),
        (torch.rand(3, 9, 9), r"are torch\.float32"),
        (torch.full((3, 9, 9), 300), r"are torch\.int64"),
    ],
)
def test_an_image_of_other_numbers_than_bytes_is_refused_by_name_as_the_policy_says(pixels, said):
    good = torch.full((3, 9, 9), 7, dtype=torch.uint8)
    examples = tuple(Example(name, (0,)) for name in ("good", "bad"))
    images = ImageSet(
        "own", ("x",), False, examples, (), lambda e: good if e.name == "good" else pixels
    )
    decoded = load(Reader(images, 6), examples)
    assert [example.name for example in decoded.examples] == ["good"]
    assert [name for name, _ in decoded.skipped] == ["bad"]
    with pytest.raises(BadImageError, match=f"^bad: its pixels .*{said}"):
        load(Reader(images, 6), examples, on_bad_image="error")


@pytest.mark.parametrize("slope", ["NaN", "Infinity", "-Infinity"])
def test_a_dicom_header_that_makes_pixels_of_nothing_is_refused_by_name(slope, tmp_path):
    data = dcmread(get_testdata_file("CT_small.dcm"))
    data.RescaleSlope = DSfloat(float(slope))
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(BadImageError, match=r"a\.dcm: .*not finite"):
        read_image(tmp_path / "a.dcm")


def finite(folder):
    """Whether all checkpoints of a run hold finite numbers only."""
    weights = [load_file(path) for path in (folder / "checkpoints").glob("*.safetensors")]
    last = (folder / "checkpoints" / "last.pt").read_bytes()
    kept = [value for one in weights for value in one.values()]
    return len(weights) > 0 and all(
        bool(value.isfinite().all()) for value in (*kept, *tensors_of(last))
    )


@pytest.mark.slow
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_run_ends_with_the_name_and_is_resumed_to_the_same_bits(where, tmp_path, monkeypatch):
    whole = run(tiny(), tmp_path / "whole")["stages"]["consistency"]
    calls, names, last = count(1), [], whole["steps"]
    assert whole["epochs"] == 2

    def spoiling(loss, details):
        step = consistency_step(loss, details)

        def spoilt_at_the_last(batch):
            outcome = step(batch)
            if names[:1] == [batch.names[0]] or next(calls) == last:
                names[:] = [batch.names[0]]
                value = outcome.loss * NAN if where == "loss" else steep(outcome.loss, NAN)
                return Outcome(value, outcome.logged)
            return outcome

        return spoilt_at_the_last

    with monkeypatch.context() as patch:
        patch.setattr(method_arms, "consistency_step", spoiling)
        ended = atcon("run", "digits", *sets(), "--out", tmp_path / "run")
    assert ended.code == 1
    assert f"the {where} became nan on {names[0]}:" in " ".join(ended.err.split())
    assert "--resume" in ended.err
    assert "Traceback" not in ended.err
    assert finite(tmp_path / "run")
    assert atcon("run", "digits", *sets(), "--out", tmp_path / "run", "--resume").code == 0
    for path in (tmp_path / "whole" / "checkpoints").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "run" / "checkpoints" / path.name).read_bytes()


def _divided(where, processes, _progress):
    """Train on parts of batches of which an image of the second process is spoilt."""
    stage = Stage(size=8)
    steps = spoilt(stage, where, NAN)
    ours = Addend(stage.maps)
    step = divided(consistency_step(ours, stage.maps), ours)

    def schedule(epoch):
        for _, batch in steps(epoch):
            part = processes.part(len(batch.names))
            images = batch.images.clone()
            if epoch == 2 and where == "image":
                images[-1, 0, 0, 0] = NAN
            own = Batch(images[part], batch.labels[part], batch.names[part], share=0.5)
            yield (_steep(step) if epoch == 2 and not processes.first else step), own

    def _steep(inner):
        if where == "image":
            return inner
        return lambda batch: replace(found := inner(batch), loss=steep(found.loss, NAN))

    stage.train(2, schedule, processes=processes)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["image", "gradient"])
def test_of_several_processes_the_one_that_has_the_image_names_it_and_all_end(where):
    batch = next(iter(Stage(size=8).schedule()(2)))[1]
    with pytest.raises(AtconError, match=r"the (loss|gradient) became nan on ") as said:
        launch(partial(_divided, where), 2, Progress(), on_gpu=False)
    named = str(said.value).partition(" on ")[2].partition(":")[0].split(", ")
    assert named == ([batch.names[-1]] if where == "image" else list(batch.names[4:]))
