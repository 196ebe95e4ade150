"""The examples run as they are written, and do what a loop by hand does."""

import copy
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nets import assert_same_gradients, gradients
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

from atcon import ConsistencyLoss

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def example(name: str) -> dict[str, object]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_the_loop_of_ten_lines(capsys):
    trained = example("own_loop")
    losses = [float(value) for value in re.findall(r"loss (\S+),", capsys.readouterr().out)]
    torch.manual_seed(0)
    start = resnet18(num_classes=5)
    expected = ConsistencyLoss(start)(trained["loader"][0])
    assert losses[0] == pytest.approx(float(expected.detach()), abs=1e-4)
    assert len(losses) == 3
    moved = (start.fc.weight - trained["model"].fc.weight).abs().max()
    assert 1e-6 < float(moved.detach()) < 1e-4, "three steps of Adam at 1e-5"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightning_takes_the_steps_of_a_loop_by_hand(tmp_path):
    pytest.importorskip("lightning")
    trained = example("lightning_module")["main"](
        steps=2, default_root_dir=tmp_path, enable_checkpointing=False, enable_progress_bar=False
    )
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, 64, 64), torch.randint(5, (8,))
    net = resnet18(num_classes=5).train()
    consistency, optimizer = ConsistencyLoss(net), torch.optim.Adam(net.parameters(), lr=1e-4)
    for part in (slice(0, 4), slice(4, 8)):
        optimizer.zero_grad()
        supervised = cross_entropy(net(images[part]), labels[part])
        (supervised + 0.2 * consistency(images[part])).backward()
        optimizer.step()
    for name, weight in weights_of(net).items():
        torch.testing.assert_close(
            trained.net.get_parameter(name).detach(), weight, rtol=0, atol=1e-6
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", ["tiny_resnet", "tiny_vit"])
def test_the_hugging_face_trainer_trains_with_both_losses(build, tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    names = example("huggingface_trainer")
    trained = []
    for weight in (0.0, 0.2):

        def weighted(weight=weight):
            model = names[build]()
            model.weight = weight
            return model

        model, metrics = names["main"](str(tmp_path), weighted)
        assert 1 < metrics["eval_loss"] < 2, "evaluation is supervised only: near ln 5"
        trained.append(weights_of(model))
    assert any((trained[0][name] - w).abs().max() > 1e-5 for name, w in trained[1].items())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", ["tiny_resnet", "tiny_vit"])
def test_the_hugging_face_module_adds_the_two_gradients(build):
    pytest.importorskip("transformers")
    names = example("huggingface_trainer")
    torch.manual_seed(0)
    model = names[build]().double().train()
    images, labels = torch.randn(2, 3, 32, 32).double(), torch.tensor([0, 1])
    whole = copy.deepcopy(model)  # a supervised pass moves the running statistics
    whole(images, labels)["loss"].backward()
    cross_entropy(model.net(images).logits, labels).backward()
    (model.weight * model.consistency(images)).backward()
    assert_same_gradients(gradients(model), gradients(whole), 1e-9)


@pytest.mark.slow
def test_the_distributed_example_keeps_the_processes_together(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    # torchrun's processes write a line and its end apart: on one stream lines may run together
    launch += ["--redirects", "1", "--log-dir", str(tmp_path)]
    ended = subprocess.run(  # noqa: S603  ours
        [sys.executable, *launch, str(EXAMPLES / "distributed.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    printed = "".join(path.read_text() for path in tmp_path.rglob("stdout.log"))
    found = re.findall(r"process (\d): loss (\S+), largest weight (\S+)", printed)
    assert [rank for rank, _, _ in sorted(found)] == ["0", "1"]
    assert found[0][1] != found[1][1], "each has images of its own"
    assert found[0][2] == found[1][2], "and both have the same weights"
