"""What can be seen of an unsupervised fine-tuning without labels: one row of signals per epoch.

The paper asks when to stop without labels (section 6.1). These are the things a rule may look at.
All logarithms of divergences and entropies are to base 2 or relative to the largest value, so that
every signal has a fixed range, whatever the number of classes.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atcon.attention import attention_named, choose_classes, logits_of, resolve_layer, trace
from atcon.attention.borrow import borrowed
from atcon.consistency import Method, compare, pearson
from atcon.errors import InputError
from atcon.training.memory import in_parts
from atcon.types import Classes, Images, LayerMaps, Logits

SIGNALS: dict[str, str] = {
    "drift": "Jensen-Shannon divergence of the predictions from the start's, bits",
    "flips": "share of decisions that are not the start's",
    "map_stability": "correlation of the Grad-CAMs with those of the epoch before",
    "map_fidelity": "correlation of the Grad-CAMs with the start's",
    "view_agreement": "agreement of the predictions on an image and on its mirror image",
    "confidence": "mean probability of the decisions",
    "entropy": "mean entropy of the predictions, relative to the largest",
    "calibration_gap": "confidence minus the share of decisions that the mirror image keeps",
    "class_balance": "entropy of the mean prediction, relative to the largest",
    "consistency": "agreement of the maps that the fine-tuning raises (Eq. 1)",
}
"""Every signal of a probe, with its title."""


def drift(logits: Logits, start_logits: Logits, *, multi_label: bool) -> float:
    """Mean Jensen-Shannon divergence of the predictions from the start's.

    JS(p, q) = KL(p | m) / 2 + KL(q | m) / 2 with m = (p + q) / 2 (Lin, 1991), in bits: 0 where the
    predictions are the same, 1 where they exclude each other.

    Args:
        logits: Of the probe images now.
        start_logits: Of the same images at the start.
        multi_label: Whether every class is a decision of its own (sigmoid); the mean is then over
            images and classes. Else the distribution is over the classes (softmax).

    Raises:
        InputError: The two are not of the same shape.
    """
    _check_same_shape(logits, start_logits)
    p, q = (_outcomes(x, multi_label=multi_label) for x in (logits, start_logits))
    middle = (p + q) / 2
    nonzero = torch.where(middle > 0, middle, 1)
    terms = torch.special.xlogy(p, p / nonzero) + torch.special.xlogy(q, q / nonzero)
    return float(terms.sum(dim=-1).mean() / (2 * math.log(2)))


def flips(logits: Logits, start_logits: Logits, *, multi_label: bool) -> float:
    """Share of decisions that changed: each class at probability 0.5, or the arg max.

    Raises:
        InputError: The two are not of the same shape.
    """
    _check_same_shape(logits, start_logits)
    before, after = (_decisions(x, multi_label=multi_label) for x in (start_logits, logits))
    return float((before != after).double().mean())


def map_stability(maps: LayerMaps, previous_maps: LayerMaps) -> float:
    """Mean Pearson correlation of each image's map with that of another epoch.

    A map without contrast has no direction and counts as 0.

    Raises:
        InputError: The two are not of the same shape.
    """
    _check_same_shape(maps, previous_maps)
    return float(pearson(maps, previous_maps).double().mean())


def view_agreement(logits: Logits, view_logits: Logits, *, multi_label: bool) -> float:
    """Agreement of the predictions on an image and on an augmented view of it.

    1 minus their mean Jensen-Shannon divergence (see `drift`): 1 for the same predictions, 0 for
    predictions that exclude each other.

    Raises:
        InputError: The two are not of the same shape.
    """
    return 1 - drift(logits, view_logits, multi_label=multi_label)


def confidence(logits: Logits, *, multi_label: bool) -> float:
    """Mean probability that the network gives to its own decisions: max(p, 1 - p), or max p."""
    return float(_outcomes(logits, multi_label=multi_label).amax(dim=-1).mean())


def entropy(logits: Logits, *, multi_label: bool) -> float:
    """Mean entropy of the predictions, relative to the largest: 0 is certain, 1 undecided."""
    return float(_relative_entropy(_outcomes(logits, multi_label=multi_label)).mean())


def calibration_gap(logits: Logits, view_logits: Logits, *, multi_label: bool) -> float:
    """Confidence minus agreement between views: overconfidence, as far as it shows without labels.

    For a calibrated network the mean confidence is the accuracy, and the rate at which two equally
    good, independent classifiers decide alike is their accuracy too (generalised disagreement
    equality: Jiang et al., ICLR 2022). With an image and its augmented view in the place of the two
    classifiers, a positive gap says that the network is more certain than its decisions are
    reproducible. Views of one network are not independent, so they agree more than its accuracy and
    the gap is shifted down: compare it between epochs, do not read it as a calibration error.

    Returns:
        In [-1, 1]. The confidence is the mean of both views; the agreement is the share of equal
        decisions, a multiple of 1 / (number of decisions): small probes give coarse values.

    Raises:
        InputError: The two are not of the same shape.
    """
    agreement = 1 - flips(logits, view_logits, multi_label=multi_label)
    both = torch.cat([logits, view_logits])
    return confidence(both, multi_label=multi_label) - agreement


def class_balance(logits: Logits, *, multi_label: bool) -> float:
    """Entropy of the mean prediction over the images, relative to the largest.

    1 if all classes are predicted equally often; towards 0 the network collapses to one class. For
    multi-label predictions the classes' mean probabilities are divided by their sum. A network with
    one class cannot collapse: 1.
    """
    numbers = logits.detach().double()
    mean = (numbers.sigmoid() if multi_label else numbers.softmax(dim=1)).mean(dim=0)
    return 1.0 if len(mean) == 1 else float(_relative_entropy(mean / mean.sum()))


def mirrored(images: Images) -> Images:
    """Flip images, or every frame of clips, from left to right."""
    return images.flip(-1)


@dataclass(frozen=True)
class Glance:
    """What a network says about the probe images.

    Attributes:
        logits: `[image, class]`.
        view_logits: The same of the mirror images.
        maps: Grad-CAM of the start's top class, `[image, *cells]`.
        consistency: Agreement of each image's maps (Eq. 1); NaN if it was not asked for.
    """

    logits: Tensor
    view_logits: Tensor
    maps: Tensor
    consistency: Float[Tensor, " image"]


def glance(
    model: nn.Module,
    images: Images,
    layer: str,
    classes: Classes | None = None,
    *,
    method: Method | None = None,
    batch_size: int = 32,
) -> Glance:
    """Look at a network: a traced pass for logits and Grad-CAM, and a pass of the mirror images.

    Args:
        model: Evaluated with its running statistics, and left as it was.
        images: A normalised batch.
        layer: Name of the layer that Grad-CAM explains.
        classes: What to explain; None for the top class.
        method: Measures consistency as `compare` does, which costs a second map and a masked pass.
        batch_size: How many images at once.

    Returns:
        Tensors on the CPU, without a graph.

    Raises:
        InputError: There are no images, or the network allows no Grad-CAM of the layer.
    """
    _, module = resolve_layer(model, layer, images)

    def look(part: slice) -> tuple[Tensor, ...]:
        return _glance_at(
            model, images[part], module, None if classes is None else classes[part], method
        )

    parts = [seen for _, seen in in_parts(look, len(images), batch_size)]
    return Glance(*(torch.cat([one.cpu() for one in part]) for part in zip(*parts, strict=True)))


def signals_between(
    now: Glance, start: Glance, previous: Glance | None = None, *, multi_label: bool
) -> dict[str, float]:
    """Compare a glance with that of the start and that of the epoch before.

    Returns:
        Signals by the names of `SIGNALS`. Those that are not defined (no epoch before, no method,
        logits that are not finite) are left out, so that the rest can be written as JSON.
    """
    found = {
        "drift": drift(now.logits, start.logits, multi_label=multi_label),
        "flips": flips(now.logits, start.logits, multi_label=multi_label),
        "map_fidelity": map_stability(now.maps, start.maps),
        "view_agreement": view_agreement(now.logits, now.view_logits, multi_label=multi_label),
        "confidence": confidence(now.logits, multi_label=multi_label),
        "entropy": entropy(now.logits, multi_label=multi_label),
        "calibration_gap": calibration_gap(now.logits, now.view_logits, multi_label=multi_label),
        "class_balance": class_balance(now.logits, multi_label=multi_label),
        "consistency": float(now.consistency.double().mean()),
    }
    if previous is not None:
        found["map_stability"] = map_stability(now.maps, previous.maps)
    if not bool(now.logits.isfinite().all()):  # a decision about NaN is no decision
        return {}
    return {name: found[name] for name in SIGNALS if math.isfinite(found.get(name, math.nan))}


class Probe:
    """Fixed unlabelled images through which a fine-tuning is watched.

    One call per epoch::

        probe = Probe(model, images, multi_label=True)  # the start
        history = [probe(model)]
        for epoch in range(1, epochs + 1):
            ...
            history.append(probe(model))

    Attributes:
        layer: Name of the layer that Grad-CAM explains.
        classes: The start's top class of each image, which every Grad-CAM explains.
        start: What the start said.
        previous: What was seen in the last call; None before the first.
    """

    def __init__(
        self,
        start: nn.Module,
        images: Images,
        *,
        multi_label: bool,
        layer: str | nn.Module | None = None,
        method: Method | None = None,
        batch_size: int = 32,
    ) -> None:
        """Look at the start.

        Args:
            start: The supervised network; left as it was.
            images: A normalised batch, not augmented: the training images and unlabelled others.
            multi_label: Whether every class is a decision of its own (sigmoid), or one is chosen.
            layer: To explain; None finds the last convolutional stage.
            method: If given, the signal "consistency" is measured with it.
            batch_size: How many images at once.

        Raises:
            InputError: There are no images, or the network allows no Grad-CAM.
        """
        if len(images) == 0 or batch_size < 1:
            raise InputError(
                f"a probe needs images and batches of at least one: got {len(images)} images in "
                f"batches of {batch_size}"
            )
        self.images, self.multi_label = images, multi_label
        self.method, self.batch_size = method, batch_size
        self.layer, _ = resolve_layer(start, layer, images)
        first = self._glance(start)
        self.classes = choose_classes(first.logits).to(images.device)
        self.start = first
        self.previous: Glance | None = None

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Give the signals of a model, and remember it as the epoch before the next call's."""
        now = self._glance(model, self.classes)
        found = signals_between(now, self.start, self.previous, multi_label=self.multi_label)
        self.previous = now
        return found

    def resume(self, model: nn.Module) -> None:
        """Take a model as that of the last epoch: a resumed run goes on as if never stopped."""
        self.previous = self._glance(model, self.classes)

    def _glance(self, model: nn.Module, classes: Classes | None = None) -> Glance:
        return glance(
            model,
            self.images,
            self.layer,
            classes,
            method=self.method,
            batch_size=self.batch_size,
        )


def _glance_at(
    model: nn.Module,
    images: Images,
    layer: nn.Module,
    classes: Classes | None,
    method: Method | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give logits, the mirror images' logits, Grad-CAM and consistency of one batch."""
    if method is None:
        run = trace(model, images, layer)
        maps = attention_named("grad_cam").map(run, choose_classes(run.logits, classes))
        logits, consistency = run.logits.detach(), maps.new_full((len(images),), math.nan)
    else:
        seen = compare(
            model, images, {"layer": layer}, method, target=classes, also=("grad_cam",)
        ).detached()
        logits, maps, consistency = seen.logits, seen.maps["grad_cam"], seen.correlation
    with borrowed(model, images.device, compiled=True), torch.no_grad():
        view_logits = logits_of(model(mirrored(images)))
    return logits, view_logits, maps, consistency


def _outcomes(logits: Logits, *, multi_label: bool) -> Float[Tensor, "batch decision outcome"]:
    """Give the distribution of every decision: yes or no for each class, or one of the classes."""
    numbers = logits.detach().double()
    if multi_label:
        return torch.stack([numbers.sigmoid(), (-numbers).sigmoid()], dim=-1)
    return numbers.softmax(dim=1)[:, None]


def _decisions(logits: Logits, *, multi_label: bool) -> Tensor:
    return logits.detach() > 0 if multi_label else logits.detach().argmax(dim=1)


def _relative_entropy(shares: Tensor) -> Tensor:
    """Entropy over the last axis, divided by that of the uniform distribution."""
    outcomes = max(shares.shape[-1], 2)
    result: Tensor = torch.special.entr(shares).sum(dim=-1) / math.log(outcomes)
    return result


def _check_same_shape(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise InputError(
            f"signals compare the same probe images: shapes {tuple(one.shape)} and "
            f"{tuple(other.shape)} differ"
        )
