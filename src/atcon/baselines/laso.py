"""LaSO as a baseline: train the set operations, then a classifier on real plus union features.

A. Alfassy et al., "LaSO: Label-Set Operations networks for multi-label few-shot learning", CVPR
2019.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from atcon.attention.borrow import borrowed, recordable, with_gradients
from atcon.baselines.features import Features, features_of
from atcon.baselines.laso_losses import Labels, check_features, laso_losses, union
from atcon.baselines.laso_networks import LaSO, fresh_linear
from atcon.errors import InputError
from atcon.training import Batch, Outcome, Step
from atcon.types import Images


class LaSOLoss(nn.Module):
    """The sum of all losses of LaSO on a batch that is paired with itself.

    Attributes:
        laso: What is trained.
        model: The backbone, always in evaluation mode while features are taken.
        head_name: Its head, whose input the features are.
        generator: Draws the pairs; seed it before every epoch.
        frozen: Whether the backbone is a constant.
        details: Every loss of the last batch by its name; None before the first.
    """

    def __init__(
        self,
        laso: LaSO,
        model: nn.Module,
        head_name: str,
        *,
        generator: torch.Generator,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        self.laso = laso
        self.model = model
        self.head_name = head_name
        self.generator = generator
        self.frozen = frozen
        self.details: dict[str, float] | None = None

    def forward(self, images: Images, labels: Labels) -> Float[Tensor, ""]:
        """Give the loss and keep its `details`; the set operations are left in training mode.

        Args:
            images: A normalised batch of two images or more.
            labels: `[batch, class]`, 0 or 1.

        Raises:
            InputError: The head, the features, the labels or the length of the batch do not fit.
        """
        self.laso.train()
        features = features_of(self.model, self.head_name, images, gradients=not self.frozen)
        partner = partners(len(images), self.generator).to(images.device)
        losses = laso_losses(self.laso, features, features[partner], labels, labels[partner])
        values = torch.stack(list(losses.values()))
        self.details = dict(zip(losses, values.detach().tolist(), strict=True))
        return values.sum()


def laso_step(loss: nn.Module, details: LaSOLoss) -> Step:
    """A step on pairs of a batch; `loss` is `details`, possibly wrapped by Fabric.

    It logs the sum of the losses of each kind: classification, tautology, symmetry and
    reconstruction.
    """

    def step(batch: Batch) -> Outcome:
        value = loss(batch.images, batch.labels)
        if details.details is None:
            raise RuntimeError("a LaSO loss that ran has details")
        logged: dict[str, float] = {}
        for name, part in details.details.items():
            kind = name.partition(":")[0]
            logged[kind] = logged.get(kind, 0.0) + part
        return Outcome(value, logged)

    return step


def partners(count: int, generator: torch.Generator) -> Tensor:
    """Draw a partner for each of `count` images: a permutation in which none meets itself.

    Every permutation with one cycle is equally likely.

    Raises:
        InputError: There are fewer than two.
    """
    if count < 2:
        raise InputError(f"LaSO pairs different images: give it at least two, not {count}")
    order = torch.randperm(count, generator=generator, device=generator.device)
    partner = torch.empty_like(order)
    partner[order] = order.roll(-1)
    return partner


def union_features(
    laso: LaSO, features: Features, labels: Labels, generator: torch.Generator, count: int
) -> tuple[Features, Labels]:
    """Make features of images that show what two real ones show.

    Args:
        laso: Trained; used in evaluation mode and given back as it was.
        features: Real ones, `[image, feature]`.
        labels: `[image, class]`, 0 or 1.
        generator: Draws each pair: two different images, all equally likely.
        count: How many to make.

    Returns:
        Features `[count, feature]`, without a graph, and the unions of the drawn labels.

    Raises:
        InputError: Shapes or labels do not fit, or there are fewer than two images.
    """
    check_features(laso, features, labels)
    if len(features) < 2:
        raise InputError(f"a union needs two images, but there are {len(features)}: give more")
    size, where = len(features), generator.device
    first = torch.randint(size, (count,), generator=generator, device=where)
    away = torch.randint(1, size, (count,), generator=generator, device=where)
    a, b = first.to(features.device), ((first + away) % size).to(features.device)
    with borrowed(laso, features.device), torch.no_grad():
        made = laso.union(features[a], features[b])
    return made, union(labels[a], labels[b])


def fit_classifier(
    features: Features,
    labels: Labels,
    generator: torch.Generator,
    *,
    laso: LaSO | None = None,
    epochs: int = 50,
    batch_size: int = 4,
    lr: float = 1e-3,
) -> nn.Linear:
    """Train a fresh linear classifier on real features plus as many of unions, drawn anew.

    As in the authors' code, every batch of real features is joined by unions of random pairs, and
    Adam minimises the binary cross-entropy of both. Theirs is a network of four layers; one layer
    fits the place of the head.

    Args:
        features: Real ones, `[image, feature]`; constants.
        labels: `[image, class]`, 0 or 1.
        generator: Draws weights, order and pairs; the result depends on it and the data only.
        laso: Makes the unions; None gives the control without them, a linear probe.
        epochs: Passes over the real features.
        batch_size: Real features per step.
        lr: Of Adam.

    Returns:
        On the device of the features, to load into the network's head.

    Raises:
        InputError: Shapes or labels do not fit, or there are too few features.
    """
    if features.ndim != 2 or labels.ndim != 2 or len(features) != len(labels) or not len(features):
        raise InputError(
            "a classifier needs features [image, feature] and labels [image, class] of the same "
            f"images, but got {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    with with_gradients():
        features = recordable(features.detach())
        labels = recordable(labels).to(features.dtype)
        head = fresh_linear(features.shape[1], labels.shape[1], generator).to(features)
        optimizer = torch.optim.Adam(head.parameters(), lr=lr)
        for _ in range(epochs):
            order = torch.randperm(len(features), generator=generator, device=generator.device)
            for chunk in torch.split(order.to(features.device), batch_size):
                x, y = features[chunk], labels[chunk]
                if laso is not None:
                    made, combined = union_features(laso, features, labels, generator, len(chunk))
                    x, y = torch.cat([x, made]), torch.cat([y, combined])
                optimizer.zero_grad(set_to_none=True)
                loss = functional.binary_cross_entropy_with_logits(head(x), y)
                torch.autograd.backward(loss)
                optimizer.step()
    return head
