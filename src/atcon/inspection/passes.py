"""What a forward pass shows: logits, samples, randomness, buffers, activations, attention."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from atcon.attention import logits_of
from atcon.attention.borrow import borrowed
from atcon.inspection.finding import Finding, counted, error, listed, note, ok, warning
from atcon.inspection.subject import Subject

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_ALIKE = 1e-3  # of the logits' range: two kernels may round differently


def logits(subject: Subject) -> Iterator[Finding]:
    """The output must hold logits `[batch, class]` that depend on the image."""
    found = subject.logits
    count = found.shape[1]
    form = type(subject.passed.output).__name__
    where = "" if form == "Tensor" else f", taken from a {form}"
    if not bool(torch.isfinite(found).all()):
        yield error(
            "the logits are not finite",
            "look for damaged weights, or for an overflow in half precision",
        )
        return
    gradient = subject.run.gradients(found.argmax(dim=1), [subject.run.images])[0]
    if not bool(gradient.any()):
        yield error(
            "the logits do not depend on the image: the gradient is zero everywhere",
            "look for a head that starts at zero (as torchvision's ViT), activations closed "
            "everywhere, or a detach in the forward pass",
        )
    elif bool((found >= 0).all()) and _near(found.sum(dim=1), torch.ones(len(found))):
        yield warning(
            f"the {count} outputs are not negative and sum to 1: they look like probabilities",
            "return the logits, with the softmax outside: its gradients vanish where it is sure",
        )
    elif count == 1:
        yield note(
            "one logit: the explained class is always 0, whatever the answer is",
            "for a two-class problem use two logits, or read the map's sign",
            classes=1,
        )
    else:
        yield ok(f"{count} classes{where}; they depend on the image", classes=count)


def samples(subject: Subject) -> Iterator[Finding]:
    """An image's logits must not depend on the other images of the batch."""
    together = subject.logits[:1]
    with borrowed(subject.model, subject.images.device), torch.no_grad():
        alone = logits_of(subject.model(subject.two[:1].clone()))
    if _near(alone, together):
        yield ok("an image's logits do not depend on the rest of the batch")
    else:
        change = float((alone - together).abs().max())
        yield warning(
            f"an image's logits change by up to {change:.2g} with the other images of its batch",
            "look for batch statistics (BatchNorm without running statistics) or for a mean over "
            "the batch: maps of one image would explain the others too",
            change=change,
        )


def repeatable(subject: Subject) -> Iterator[Finding]:
    """Two passes are compared by the loss: they must draw nothing at random."""
    with borrowed(subject.model, subject.images.device), torch.no_grad():
        first, second = (logits_of(subject.model(subject.two.clone())) for _ in range(2))
    dropouts = sum(isinstance(module, _DROPOUTS) for module in subject.model.modules())
    if not _near(first, second):
        change = float((first - second).abs().max())
        yield warning(
            f"two passes of the same images differ by up to {change:.2g} in evaluation mode: the "
            "correlation of two maps then measures noise",
            "let dropout and stochastic depth follow the mode: "
            "functional.dropout(x, training=self.training)",
            change=change,
        )
    elif dropouts:
        yield ok(f"two passes agree; {counted(dropouts, 'dropout layer')} off while maps are taken")
    else:
        yield ok("two passes agree")


def buffers(subject: Subject) -> Iterator[Finding]:
    """Buffers that a forward pass writes to are put back."""
    written = subject.passed.written
    if written:
        yield note(
            f"the forward pass writes to {listed(list(written))}: maps and the loss put that back, "
            "so what it counts, it counts in your own passes only",
            "nothing, if intended",
            buffers=list(written),
        )
    else:
        yield ok("a forward pass in evaluation mode writes to no buffer")


def double_backward(subject: Subject) -> Iterator[Finding]:
    """The loss differentiates a gradient, which fused attention kernels do not allow."""
    calls, failure = subject.passed.attention, subject.twice.failure
    kernels = f" ({counted(calls, 'call')} of attention kernels)" if calls else ""
    if failure is None:
        yield ok(f"PyTorch can differentiate the network twice{kernels}", calls=calls)
        return
    what = f"PyTorch cannot differentiate the network twice{kernels}: {failure}"
    if subject.trains(detach_mask=False):
        yield note(
            f"{what}. atcon computes those parts in another way, so its loss works",
            "nothing for atcon; for maps of other libraries, "
            "torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
            calls=calls,
        )
    else:
        yield note(what, "see the finding on the gradient", calls=calls)


def _near(first: Tensor, second: Tensor) -> bool:
    """Whether two sets of logits are one, up to rounding."""
    second = second.to(first)
    scale = float(first.abs().max()) + 1e-30
    return bool((first - second).abs().max() <= _ALIKE * scale)
