"""Fold BatchNorm into the convolution before it, functionally.

Folded into the weights, a BatchNorm with running statistics costs nothing and its input need not
be kept. Which convolutions end in a BatchNorm, and in nothing else, is found by one forward pass of
one image. Weights, scales and shifts keep their own gradients: nothing of the model is changed.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from atcon.attention.borrow import batch_statistics, borrowed, uses_batch_statistics
from atcon.attention.convolution import CONVOLUTIONS, Convolution
from atcon.attention.normalisation import Norm

LOOKS = {
    getattr(Tensor, name).__get__
    for name in ("shape", "ndim", "dtype", "device", "requires_grad", "is_cuda", "layout")
} | {Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_contiguous}
"""What may be asked of a tensor without reading its values."""


class Foldable(NamedTuple):
    """A convolution whose output one BatchNorm reads, and nobody else.

    Attributes:
        weight: Of the convolution.
        norm: The BatchNorm.
        shown_by: The modules that return the convolution's output.
    """

    weight: "ref[Tensor]"
    norm: Norm
    shown_by: "tuple[ref[nn.Module], ...]"

    def hooked(self) -> bool:
        """Whether a hook is shown the convolution's output, which then has to be there."""
        modules = [module for shown in self.shown_by if (module := shown()) is not None]
        return any(module._forward_hooks for module in modules)  # noqa: SLF001  there is no public way to ask


class Folds:
    """The convolutions of a model that can be folded, and their folded weights of one use.

    Args:
        foldable: By the id of the convolution's weight. Those shown to hooks are left out.
    """

    def __init__(self, foldable: dict[int, Foldable]) -> None:
        self._foldable = {key: one for key, one in foldable.items() if not one.hooked()}
        self._folded: dict[int, tuple[Tensor, Tensor]] = {}

    def after(self, convolution: Convolution) -> Norm | None:
        """Give the BatchNorm that is this convolution's only reader."""
        known = self._foldable.get(id(convolution.weight))
        if known is None or uses_batch_statistics():
            return None
        return known.norm if known.weight() is convolution.weight else None

    def fold(self, convolution: Convolution, norm: Norm) -> Convolution:
        """Give the convolution that equals `convolution` and then `norm`."""
        weight, bias = convolution.weight, convolution.bias
        if id(weight) not in self._folded:
            scale, shift = norm.affine()
            folded = _Scaled.apply(weight, scale.to(weight.dtype), layout_of(convolution.x))
            moved = shift if bias is None else shift + bias * scale
            self._folded[id(weight)] = (folded, moved.to(weight.dtype))
        return convolution._replace(
            weight=self._folded[id(weight)][0], bias=self._folded[id(weight)][1]
        )


class _Scaled(torch.autograd.Function):
    """Weights times a scale per output channel, in the layout that the convolution wants.

    Large networks have more weights than a small batch has activations: every pass over them that
    is spared is seen in the time of a step.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, layout: torch.memory_format) -> Tensor:
        ctx.save_for_backward(weight, scale)
        folded = torch.empty_like(weight, memory_format=layout)
        return torch.mul(weight, _per_output(scale, weight), out=folded)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weight, scale = ctx.saved_tensors
        grad = grads[0].contiguous()
        by_weight = by_scale = None
        if ctx.needs_input_grad[1]:
            rows = (len(weight), 1, -1)
            by_scale = torch.bmm(grad.reshape(rows), weight.reshape(rows).transpose(1, 2)).flatten()
        if ctx.needs_input_grad[0]:
            by_weight = grad * _per_output(scale, weight)
        return by_weight, by_scale, None


def _per_output(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.reshape(-1, *(1,) * (weight.ndim - 1))


_KNOWN: "WeakKeyDictionary[nn.Module, dict[int, Foldable]]" = WeakKeyDictionary()


def folds_of(model: nn.Module, images: Tensor) -> Folds:
    """Find what can be folded: once for each model, before its first use, so that uses agree."""
    buffers = {id(buffer) for buffer in model.buffers()}
    known = _KNOWN.get(model)
    if known is None or not all(id(one.norm.mean) in buffers for one in known.values()):
        _KNOWN[model] = _find(model, images)  # new, or moved to another type or device
    return Folds(_KNOWN[model])


def _find(model: nn.Module, images: Tensor) -> dict[int, Foldable]:
    recorder = _Recorder()
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):  # its operations are out of sight anyway
                continue
            hook = module.register_forward_hook(recorder.note_module, prepend=True)
            stack.callback(hook.remove)
        stack.enter_context(batch_statistics(used=False))
        stack.enter_context(borrowed(model, images.device))
        stack.enter_context(torch.no_grad())
        stack.enter_context(recorder)
        model(images[:1].clone())
    return {
        key: Foldable(ref(weight), norm, tuple(recorder.shown_by.get(key, ())))
        for key, (weight, norm) in recorder.readers.items()
        if norm is not None
    }


class _Recorder(TorchFunctionMode):
    """While entered, note who reads the output of every convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[int, tuple[ref[Tensor], Tensor]] = {}
        self.readers: dict[int, tuple[Tensor, Norm | None]] = {}
        self.weights: set[int] = set()
        self.shown_by: dict[int, list[ref[nn.Module]]] = {}

    def note_module(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        """Note that a module returns outputs of convolutions."""
        for tensor in tensors_in(output):
            weight = self._weight_of(tensor)
            if weight is not None:
                self.shown_by.setdefault(id(weight), []).append(ref(module))

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in LOOKS:
            for tensor in tensors_in((args, kwargs)):
                self._note(tensor, func, args, kwargs)
        result = func(*args, **kwargs)
        if func in CONVOLUTIONS:
            weight: Any = kwargs.get("weight", args[1] if len(args) > 1 else None)
            if id(weight) in self.weights:  # shared: its outputs may have different readers
                self.readers[id(weight)] = (weight, None)
            self.weights.add(id(weight))
            self.outputs[id(result)] = (ref(result), weight)
        return result

    def _note(self, tensor: Tensor, func: Any, args: Any, kwargs: Any) -> None:
        weight = self._weight_of(tensor)
        if weight is None:
            return
        norm: Norm | None = None
        if func is functional.batch_norm and id(weight) not in self.readers:
            norm = Norm.called_with(*args, **kwargs)
        self.readers[id(weight)] = (weight, norm)

    def _weight_of(self, tensor: Tensor) -> Tensor | None:
        """Give the weight of the convolution that gave a tensor."""
        output, weight = self.outputs.get(id(tensor), (None, None))
        return weight if output is not None and output() is tensor else None


def layout_of(x: Tensor) -> torch.memory_format:
    """Give the layout in which convolutions of such tensors need no copies."""
    return torch.channels_last if x.ndim == 4 else torch.preserve_format


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Give the tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
