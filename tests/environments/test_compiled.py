"""Compiled networks: maps and losses run them as they were written, scores run them compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nets import assert_same_gradients, gradients, loss_and_gradients, stages
from tiny import pictures
from torch.utils.checkpoint import checkpoint

from atcon import ConsistencyLoss, explain, find_layer
from atcon.attention import trace

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf",  # the compiler looks at it
    "ignore:Dynamo does not know how to trace",
)


class Backend:
    """Counts the graphs that run, and runs them as they are."""

    def __init__(self):
        self.runs = 0

    def __call__(self, graph, inputs):
        def run(*args):
            self.runs += 1
            return graph.forward(*args)

        return run


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def whole(model, backend):
    return torch.compile(model, backend=backend)


def in_place(model, backend):
    model.compile(backend=backend)
    return model


def in_parts(model, backend):
    for index, stage in enumerate(model.stages):
        model.stages[index] = torch.compile(stage, backend=backend)
    model.head.compile(backend=backend)
    return model


def by_function(model, backend):
    model.call = torch.compile(lambda stage, x: stage(x), backend=backend)
    return model


COMPILED = {f.__name__: f for f in (whole, in_place, in_parts, by_function)}
each = pytest.mark.parametrize("way", COMPILED)


def without_wrappers(found):
    return {name.replace("_orig_mod.", ""): gradient for name, gradient in found.items()}


@each
@pytest.mark.parametrize("warm", [False, True])
def test_the_loss_of_a_compiled_network_is_that_of_the_plain_one(way, warm):
    expected = loss_and_gradients(stages().train(), pictures())
    backend = Backend()
    model = COMPILED[way](stages().train(), backend)
    if warm:
        model.eval()(pictures())
        model.train()
    before = backend.runs
    loss = ConsistencyLoss(model)
    value = loss(pictures())
    value.backward()
    assert backend.runs == before, "the compiled code cannot be differentiated twice"
    assert loss.details.activations == 3
    assert loss.layer_name == "stages.2"
    assert torch.equal(value.detach(), expected[0])
    assert_same_gradients(without_wrappers(gradients(model)), expected[1], 1e-12)


@each
@pytest.mark.parametrize("name", ["grad_cam", "guided_backprop"])
def test_maps_of_a_compiled_network(way, name):
    expected = explain(stages(), pictures(), name)
    model = COMPILED[way](stages(), "eager")
    model(pictures())
    assert torch.equal(explain(model, pictures(), name), expected)


@each
def test_layers_keep_the_names_they_have_without_the_compiler(way):
    model = COMPILED[way](stages(), "eager")
    plain = getattr(model, "_orig_mod", model)
    assert find_layer(model, pictures()) == "stages.2"
    expected = explain(stages(), pictures(), layer="stages.1")
    assert torch.equal(explain(model, pictures(), layer="stages.1"), expected)
    assert torch.equal(explain(model, pictures(), layer=plain.stages[1]), expected)


@each
def test_the_compiled_forward_pass_gives_scores(way):
    backend = Backend()
    model = COMPILED[way](stages(), backend)
    run = trace(model, pictures())
    assert backend.runs == 0
    scores = run.score(pictures())
    assert backend.runs > 0
    torch.testing.assert_close(scores, run.logits.detach(), rtol=1e-12, atol=1e-12)


def test_the_compiler_is_back_afterwards():
    backend = Backend()
    model = torch.compile(stages(), backend=backend)
    ConsistencyLoss(model)(pictures()).backward()
    model(pictures())
    assert backend.runs > 0


def test_a_supervised_step_stays_compiled_beside_the_loss():
    backend = Backend()
    model = torch.compile(stages().train(), backend=backend)
    loss = ConsistencyLoss(model)
    runs = []
    for _ in range(3):
        (model(pictures()).square().mean() + loss(pictures())).backward()
        runs.append(backend.runs)
    assert runs[2] - runs[1] == runs[1] - runs[0] > 0


def test_through_aot_autograd_too():
    expected = loss_and_gradients(stages(), pictures())
    model = torch.compile(stages(), backend="aot_eager")
    model(pictures()).sum().backward()
    found = loss_and_gradients(model, pictures())
    assert_same_gradients(without_wrappers(found[1]), expected[1], 1e-12)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_through_inductor_too():
    expected = loss_and_gradients(stages(), pictures())
    model = torch.compile(stages())
    model(pictures()).sum().backward()
    found = loss_and_gradients(model, pictures())
    assert_same_gradients(without_wrappers(found[1]), expected[1], 1e-12)
    scores = trace(model, pictures()).score(pictures())
    torch.testing.assert_close(scores, stages()(pictures()), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_compiling_the_loss_itself_is_refused_with_a_way_out():
    """In a process of its own: the compiler cannot trace the type checks of these tests."""
    program = (
        "import torch; from nets import stages; from tiny import pictures; import atcon\n"
        "torch.compile(atcon.ConsistencyLoss(stages()), backend='eager')(pictures())"
    )
    folders = os.pathsep.join(str(ROOT / folder) for folder in ("src", "tests/support"))
    ended = subprocess.run(  # noqa: S603  ours
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "InputError: a map or loss was called inside a compiled function" in ended.stderr


def test_a_compiled_step_may_hold_a_loss_that_is_marked():
    expected = loss_and_gradients(stages(), pictures())
    model = stages()
    loss = torch.compiler.disable(ConsistencyLoss(model))
    step = torch.compile(lambda images: 2 * loss(images), backend="eager")
    value = step(pictures())
    value.backward()
    torch.testing.assert_close(value.detach(), 2 * expected[0])
    assert_same_gradients(gradients(model), {k: 2 * g for k, g in expected[1].items()}, 1e-12)


def test_a_checkpointed_part_that_is_compiled():
    expected = loss_and_gradients(stages().train(), pictures())
    backend = Backend()
    compiled = torch.compile(lambda stage, x: stage(x), backend=backend)
    model = stages(call=lambda stage, x: checkpoint(compiled, stage, x, use_reentrant=False))
    found = loss_and_gradients(model.train(), pictures())
    assert backend.runs == 0
    assert_same_gradients(found[1], expected[1], 1e-12)
