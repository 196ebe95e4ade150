"""SimCLR: the two views of a sample agree, and differ from every other sample.

Chen et al., ICML 2020, Eq. 1 and Algorithm 1. For the small batches that clips force: the decoupled
loss (Yeh et al., ECCV 2022, Eq. 6), and a queue of negatives (He et al., CVPR 2020, without the
momentum encoder). Clips of one patient are no negatives of each other.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from atcon.attention import without_autocast
from atcon.attention.trace import in_single_precision
from atcon.baselines.features import Features, head_input
from atcon.baselines.two_views import Groups, both_views, in_training
from atcon.errors import InputError, no_such
from atcon.training import Batch, BatchNormPolicy, Outcome, Step
from atcon.types import Images

Embeddings = Float[Tensor, "batch dimension"]
HeldEmbeddings = Float[Tensor, "held dimension"]
HeldGroups = Int[Tensor, " held"]

_NOBODY = torch.iinfo(torch.int64).min  # the group of what was queued without one
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def nt_xent(
    first: Embeddings,
    second: Float[Tensor, "_ _"],
    *,
    temperature: float = 0.5,
    decoupled: bool = False,
    queue: HeldEmbeddings | None = None,
    groups: Int[Tensor, " sample"] | None = None,
    queue_groups: Int[Tensor, " entry"] | None = None,
) -> Float[Tensor, ""]:
    """Give the normalised, temperature-scaled cross-entropy of two views of a batch.

    For a view i with positive j, l_i = -s_ij + log(e^s_ij + sum over negatives k of e^s_ik), where
    s is the cosine over the temperature; the mean over all 2 B views is taken. Embeddings that are
    all alike give ln(2 B - 1), the chance loss.

    Args:
        first: `[batch, d]`, of any length but zero.
        second: Of the other views, in the same order.
        temperature: Divides the cosines.
        decoupled: Whether e^s_ij is left out of the sum, so that an easy positive does not weaken
            the gradient of the negatives; a view without negatives then has -s_ij alone.
        queue: More negatives, `[held, d]`, taken as constants.
        groups: The patient of each sample; samples of one group are no negatives of each other.
            None: each is its own.
        queue_groups: The same for the queue; None: its entries are negatives of every sample.

    Raises:
        InputError: The two views are not of one shape, there are none, groups are of another
            length, or the temperature is not positive.
    """
    _check(first, second, temperature)
    with without_autocast(first.device):
        views = functional.normalize(in_single_precision(torch.cat([first, second])), dim=1)
        held = views[:0] if queue is None else queue.detach().to(views.dtype)
        others = torch.cat([views, functional.normalize(held, dim=1)])
        similarity = views @ others.mT / temperature
        one, two = views.tensor_split(2)
        positive = ((one * two).sum(dim=1) / temperature).repeat(2)
        negative = _negatives(len(one), len(held), groups, queue_groups, device=views.device)
        return (_repulsion(similarity, positive, negative, decoupled=decoupled) - positive).mean()


def _check(first: Tensor, second: Tensor, temperature: float) -> None:
    if first.shape != second.shape or first.ndim != 2 or len(first) == 0:
        raise InputError(
            "two views of one batch are needed, each [batch, d], but these are "
            f"{list(first.shape)} and {list(second.shape)}"
        )
    if temperature <= 0:
        raise InputError(f"temperature must be above 0, but it is {temperature}")


def _negatives(
    batch: int,
    held: int,
    groups: Tensor | None,
    queue_groups: Tensor | None,
    *,
    device: torch.device,
) -> Tensor:
    """Mark which of the views and the queue are negatives of each view, `[2 B, 2 B + held]`."""
    for name, given, count in (("groups", groups, batch), ("queue_groups", queue_groups, held)):
        if given is not None and given.shape != (count,):
            raise InputError(
                f"{name} {list(given.shape)} for {count} samples: one of each a sample"
            )
    sample = torch.arange(batch, device=device)
    own = sample if groups is None else groups.to(device)
    views = own[:, None] != own
    if groups is None or queue_groups is None:
        queued = torch.ones(batch, held, dtype=torch.bool, device=device)
    else:
        queued = own[:, None] != queue_groups.to(device)
    return torch.cat([views, views, queued], dim=1).repeat(2, 1)


def _repulsion(
    similarity: Tensor, positive: Tensor, negative: Tensor, *, decoupled: bool
) -> Tensor:
    """Give the logarithm of each view's sum; 0, without a gradient, where it has no terms."""
    terms = similarity.masked_fill(~negative, -math.inf)
    if not decoupled:
        return torch.cat([terms, positive[:, None]], dim=1).logsumexp(dim=1)
    none = ~negative.any(dim=1)
    sums = terms.masked_fill(none[:, None], 0).logsumexp(dim=1)  # of -inf alone: no gradient
    return sums.masked_fill(none, 0)


class Queue(nn.Module):
    """The last embeddings that were pushed, oldest out first; its buffers are checkpointed."""

    embeddings: Tensor
    groups: Tensor
    pushed: Tensor

    def __init__(self, size: int, dimension: int) -> None:
        """Make an empty queue for `size` embeddings of `dimension` numbers.

        Raises:
            InputError: It would hold nothing.
        """
        super().__init__()
        if size < 1 or dimension < 1:
            raise InputError(f"a queue of {size} embeddings of {dimension} numbers holds nothing")
        self.register_buffer("embeddings", torch.zeros(size, dimension))
        self.register_buffer("groups", torch.full((size,), _NOBODY))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))

    def held(self) -> tuple[HeldEmbeddings, HeldGroups]:
        """Give what it holds now, as copies, with its groups."""
        count = min(int(self.pushed), len(self.groups))
        return self.embeddings[:count].clone(), self.groups[:count].clone()

    @torch.no_grad()
    def push(self, embeddings: Embeddings, groups: Groups | None = None) -> None:
        """Take embeddings in, in their order; of more than it can hold, the last."""
        size, begin = len(self.groups), int(self.pushed)
        kept = embeddings[-size:]
        skipped = begin + len(embeddings) - len(kept)
        places = torch.arange(skipped, skipped + len(kept), device=kept.device) % size
        self.embeddings[places] = kept.to(self.embeddings.dtype)
        self.groups[places] = _NOBODY if groups is None else groups[-size:].to(self.groups.device)
        self.pushed.add_(len(embeddings))


@dataclass(frozen=True)
class Agreement:
    """Mean cosines of the last batch: both near 1 is a collapse.

    Attributes:
        positive: Between the two views of a sample.
        between: Between views of different samples; NaN with one sample.
    """

    positive: float
    between: float


class SimCLRLoss(nn.Module):
    """NT-Xent of a network without its head, and of a projection of its own (Chen et al., 2020).

    The network keeps its head: only what enters it is taken. What is trained, and what a checkpoint
    must hold, is the whole module: the encoder, `projection` and, if there is one, `queue`.
    """

    agreement: Agreement | None = None
    """Of the last call; None before the first."""

    def __init__(
        self,
        encoder: nn.Module,
        head_name: str,
        *,
        dimension: int = 128,
        temperature: float = 0.5,
        decoupled: bool = False,
        queue_size: int = 0,
        batch_norm: BatchNormPolicy = "frozen",
        generator: Generator | None = None,
    ) -> None:
        """Choose the loss.

        Args:
            encoder: A classifier; trained, not changed otherwise.
            head_name: The linear layer or convolution that makes its logits.
            dimension: Of the embeddings.
            temperature: See `nt_xent`.
            decoupled: See `nt_xent`.
            queue_size: How many embeddings of earlier batches are negatives too. In a small data
                set these include the batch's own samples: give groups, at least one per sample.
            batch_norm: "frozen" uses the encoder's running statistics; "batch" those of both views
                together, and moves the running ones.
            generator: Draws the projection's weights; None: seed 0.

        Raises:
            InputError: There is no such head, or it is neither linear nor a convolution.
        """
        super().__init__()
        self.encoder = encoder
        self.head_name = head_name
        self.temperature = temperature
        self.decoupled = decoupled
        self.batch_norm: BatchNormPolicy = batch_norm
        weight = next(encoder.parameters())
        source = generator or Generator().manual_seed(0)
        width = _width_of_head(encoder, head_name)
        self.projection = _projection(width, dimension, source).to(weight)
        self.queue = Queue(queue_size, dimension).to(weight) if queue_size else None

    def forward(
        self, first: Images, second: Images, groups: Groups | None = None
    ) -> Float[Tensor, ""]:
        """Give the loss of two views of a batch, and let the queue move on if gradients are kept.

        Args:
            first: `[batch, channel, *grid]`, normalised.
            second: The other views, in the same order.
            groups: The patient of each sample; see `nt_xent`.
        """
        with in_training(self.encoder, self.batch_norm):
            features = _features_of(self.encoder, self.head_name, torch.cat([first, second]))
        embeddings = functional.normalize(in_single_precision(self.projection(features)), dim=1)
        one, two = embeddings.tensor_split(2)
        held, held_groups = self.queue.held() if self.queue else (None, None)
        value = nt_xent(
            one,
            two,
            temperature=self.temperature,
            decoupled=self.decoupled,
            queue=held,
            groups=groups,
            queue_groups=held_groups,
        )
        if self.queue and torch.is_grad_enabled():
            self.queue.push(embeddings, None if groups is None else groups.repeat(2))
        self.agreement = _agreement(one.detach(), two.detach())
        return value


def _width_of_head(model: nn.Module, head_name: str) -> int:
    """Give how many features enter the head.

    Raises:
        InputError: There is no such head, or it is neither linear nor a convolution.
    """
    modules = dict(model.named_modules())
    if head_name not in modules:
        raise no_such(f"head of {type(model).__name__}", head_name, modules)
    head = modules[head_name]
    if isinstance(head, nn.Linear):
        return head.in_features
    if isinstance(head, _CONVOLUTIONS):
        return head.in_channels
    raise InputError(
        f"the head {head_name!r} is a {type(head).__name__}: name the linear layer or the "
        "convolution that makes the logits"
    )


def _features_of(model: nn.Module, head_name: str, images: Images) -> Features:
    """Give what enters the head, averaged over positions where it is a map (SqueezeNet) or tokens.

    Raises:
        InputError: The head did not run, or not once for each image.
    """
    with head_input(model, head_name) as entered:
        model(images)
    if not entered or len(entered[-1]) != len(images):
        raise InputError(
            f"the head {head_name!r} did not run on every image in the model's forward pass"
        )
    features = entered[-1]
    if isinstance(model.get_submodule(head_name), _CONVOLUTIONS):
        return features.flatten(2).mean(dim=2)
    return features.flatten(1, -2).mean(dim=1) if features.ndim > 2 else features


def _projection(features: int, dimension: int, generator: Generator) -> nn.Sequential:
    """Make g(h) = W_2 max(0, W_1 h), as wide inside as its input, with PyTorch's usual draws."""
    layers = [  # made on meta, which draws nothing from the global generator
        nn.Linear(features, width, device="meta").to_empty(device="cpu")
        for width in (features, dimension)
    ]
    for layer in layers:
        for weight in (layer.weight, layer.bias):
            nn.init.uniform_(weight, -(features**-0.5), features**-0.5, generator=generator)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def _agreement(one: Tensor, two: Tensor) -> Agreement:
    cosines = one @ two.mT
    count = len(cosines)
    own = float(cosines.diagonal().sum())
    others = float(cosines.sum()) - own
    return Agreement(own / count, others / (count * (count - 1)) if count > 1 else math.nan)


def simclr_step(loss: nn.Module, details: SimCLRLoss) -> Step:
    """A step on two views, without labels; `loss` is `details`, possibly wrapped by Fabric."""

    def step(batch: Batch) -> Outcome:
        views = both_views(batch)
        value = loss(views.images, views.second, views.groups)
        if details.agreement is None:
            raise RuntimeError("a contrastive loss that ran knows how its views agree")
        seen = details.agreement
        return Outcome(value, {"positive": seen.positive, "between_samples": seen.between})

    return step
