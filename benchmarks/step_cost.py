"""What a consistency step costs, in supervised steps of the same network and batch.

    python benchmarks/step_cost.py                        # ResNet-50, 4 images of 256 x 256
    python benchmarks/step_cost.py --network mobilenet_v2
    python benchmarks/step_cost.py --network r3d_18 --batch 2 --size 80 --frames 16
    python benchmarks/step_cost.py --device cuda --precision bf16 --batch 16

A step is forward and backward, without the optimiser. The supervised step is the plain one:
training mode, cross-entropy. The variants take turns, so that a busy machine slows all of them;
times are medians over the turns. Peak memory is that of a process of its own for each variant,
above what it holds before the network is built: weights, gradients and activations.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torchvision
from pytorch_grad_cam.guided_backprop import GuidedBackpropReLU
from torch import Tensor, nn
from torch.nn import functional

from atcon import ConsistencyLoss
from atcon.attention import resolve_layer
from atcon.consistency.masks import reference_mask, squashed
from atcon.records import write_json

Step = Callable[[], object]


class PerSample:
    """The authors' arithmetic: one image at a time, three forward passes, swapped ReLU modules.

    The guided ReLU is the one of the grad-cam package (install `atcon[test]`).

    Args:
        model: The network.
        layer: Grad-CAM's.
        padding: What convolutions pad with: the authors' code switches all of them to reflection,
            for clips to replication.
    """

    def __init__(self, model: nn.Module, layer: nn.Module, padding: str = "zeros") -> None:
        self.model, self.layer, self.padding = model, layer, padding

    def __call__(self, images: Tensor) -> Tensor:
        """Give the loss of a batch."""
        with _padded(self.model, self.padding):
            return self._loss(images)

    def _loss(self, images: Tensor) -> Tensor:
        return -torch.stack([self._agreement(image[None]) for image in images]).mean()

    def _agreement(self, image: Tensor) -> Tensor:
        first, label = self._grad_cam(image, None)
        guided = self._guided(image, label)
        mask = reference_mask(guided)
        second, _ = self._grad_cam(image * mask[:, None], label)
        a, b = (m.flatten() - m.mean() for m in (squashed(first), squashed(second)))
        return (a * b).sum() / (a.norm() * b.norm())

    def _grad_cam(self, image: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        kept: list[Tensor] = []
        hook = self.layer.register_forward_hook(lambda _m, _i, output: kept.append(output))
        logits = self.model(image)
        hook.remove()
        label = logits.argmax(dim=1) if label is None else label
        (gradient,) = torch.autograd.grad(
            logits.gather(1, label[:, None]).sum(), kept[0], create_graph=True
        )
        alpha = gradient.flatten(2).mean(dim=2)
        return torch.einsum("bk,bk...->b...", alpha, kept[0]), label

    def _guided(self, image: Tensor, label: Tensor) -> Tensor:
        image = image.clone().requires_grad_()
        with _guided_relus(self.model):
            logits = self.model(image)
        score = logits.gather(1, label[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, image, create_graph=True)
        return gradient.abs().sum(dim=1)


class _Guided(nn.Module):
    def __init__(self, upper: float) -> None:
        super().__init__()
        self.upper = upper

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = GuidedBackpropReLU.apply(x)
        return result.clamp(max=self.upper) if self.upper < math.inf else result


@contextmanager
def _guided_relus(model: nn.Module) -> Iterator[None]:
    swapped = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ReLU | nn.ReLU6)
    ]
    for parent, name, child in swapped:
        setattr(parent, name, _Guided(6.0 if isinstance(child, nn.ReLU6) else math.inf))
    try:
        yield
    finally:
        for parent, name, child in swapped:
            setattr(parent, name, child)


@contextmanager
def _padded(model: nn.Module, padding: str) -> Iterator[None]:
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    before = [convolution.padding_mode for convolution in convolutions]
    for convolution in convolutions:
        convolution.padding_mode = padding  # type: ignore[assignment]
    try:
        yield
    finally:
        for convolution, mode in zip(convolutions, before, strict=True):
            convolution.padding_mode = mode


class Bench:
    """A network, a batch, and the steps that are compared on them."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.device = torch.device(options.device)
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(options.precision)
        family = torchvision.models.video if options.frames else torchvision.models
        self.model: nn.Module = getattr(family, options.network)(num_classes=20).to(self.device)
        frames = (options.frames,) if options.frames else ()
        shape = (options.batch, 3, *frames, options.size, options.size)
        self.images = torch.randn(shape, device=self.device)
        self.labels = torch.arange(options.batch, device=self.device) % 20
        name, layer = resolve_layer(self.model, None, self.images)
        common = {"layer": name, "mask": "reference"}
        self.losses = {
            "consistency": ConsistencyLoss(self.model, detach_mask=False, **common),
            "detached": ConsistencyLoss(self.model, detach_mask=True, **common),
            "micro-batches": ConsistencyLoss(
                self.model, detach_mask=False, micro_batch=1, **common
            ),
        }
        self.per_sample = PerSample(self.model, layer)
        padding = "replicate" if options.frames else "reflect"
        self.authors = PerSample(self.model, layer, padding)

    def steps(self) -> dict[str, Step]:
        """Give every variant by its name; the first is the unit."""
        return {
            "supervised": self.supervised,
            **{
                name: lambda loss=loss: self.consistency(loss) for name, loss in self.losses.items()
            },
            "per-sample": lambda: self.consistency(self.per_sample),
            "authors": lambda: self.consistency(self.authors),
            "maps only": self.evaluate,
        }

    def supervised(self) -> None:
        """Take the plain supervised step."""
        self.model.train().zero_grad()
        with self._precision():
            loss = functional.cross_entropy(self.model(self.images), self.labels)
        loss.backward()

    def consistency(self, loss: Callable[[Tensor], Tensor]) -> None:
        """Take a consistency step."""
        self.model.eval().zero_grad()
        with self._precision():
            value = loss(self.images)
        value.backward()

    def evaluate(self) -> None:
        """Take both maps and their agreement, without a graph."""
        with self._precision():
            self.losses["consistency"].compare(self.images)

    def _precision(self) -> AbstractContextManager[object]:
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def seconds(step: Step, device: torch.device) -> float:
    """Time one step."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_megabytes(options: argparse.Namespace) -> float:
    """Take two steps of one variant in this process; give its peak above what it began with."""
    if options.device == "cuda":
        bench = Bench(options)
        for _ in range(2):
            bench.steps()[options.memory_of]()
        return float(torch.cuda.max_memory_allocated()) / 1e6
    before = _status("VmRSS")
    bench = Bench(options)
    for _ in range(2):
        bench.steps()[options.memory_of]()
    return _status("VmHWM") - before


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return float(next(line for line in lines if line.startswith(key)).split()[1]) / 1e3


def measured_apart(name: str) -> float:
    """Measure the peak memory of one variant in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
    found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return float(json.loads(found.stdout.splitlines()[-1]))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16", "fp16"])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", type=Path, help="write the numbers here too, as JSON")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print seconds, megabytes and both as multiples of the supervised step."""
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(json.dumps(peak_megabytes(options)))
        return
    bench = Bench(options)
    steps = bench.steps()
    turns: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.turns + 1):
        for name, step in steps.items():
            took = seconds(step, bench.device)
            if turn:  # the first warms up
                turns[name].append(took)
    record = {
        "network": options.network,
        "images": list(bench.images.shape),
        "device": options.device,
        "precision": options.precision,
        "threads": options.threads,
        "torch": torch.__version__,
        "seconds": {name: statistics.median(took) for name, took in turns.items()},
        "range": {name: [min(took), max(took)] for name, took in turns.items()},
        "megabytes": {name: measured_apart(name) for name in steps},
    }
    if options.record:
        write_json(options.record, record)
    print(shown(record))


def shown(record: dict[str, Any]) -> str:
    """Draw a record as text."""
    times, memory = record["seconds"], record["megabytes"]
    shape = " x ".join(str(size) for size in record["images"])
    lines = [
        (
            f"{record['network']}, {shape}, {record['precision']} on {record['device']}, "
            f"{record['threads']} threads, torch {record['torch']}"
        ),
        f"{'':14} {'seconds':>8} {'ratio':>6} {'MB':>6} {'ratio':>6}",
    ]
    lines += [
        f"{name:14} {took:8.3f} {took / times['supervised']:6.2f} "
        f"{memory[name]:6.0f} {memory[name] / memory['supervised']:6.2f}"
        for name, took in times.items()
    ]
    lean, authors = (times[name] / times["consistency"] for name in ("per-sample", "authors"))
    faster = f"the loss is {lean:.1f} times faster than its per-sample version"
    return "\n".join([*lines, f"{faster}, {authors:.1f} times with the authors' padding"])


if __name__ == "__main__":
    main()
