"""The consistency loss (Eq. 2) for any training loop."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from atcon.attention import Attention, attention_named, resolve_layer, trace
from atcon.attention.sharded import gathered as gathered_weights
from atcon.attention.wrapped import check_synchronised
from atcon.consistency.choices import PRESETS, Preset, method_of, named
from atcon.consistency.compare import compare
from atcon.consistency.comparison import Comparison
from atcon.consistency.correlation import Correlation
from atcon.consistency.details import ConsistencyDetails
from atcon.consistency.mask_options import MaskOptions, at_progress
from atcon.consistency.masks import Mask
from atcon.consistency.matching import Matching
from atcon.consistency.micro_batch import Gathered, at_a_time, halved, in_float16
from atcon.consistency.prediction import disagreement
from atcon.consistency.stochastic import draw, make_mask
from atcon.consistency.teacher import Teacher
from atcon.errors import InputError
from atcon.types import Images, Target


class ConsistencyLoss(nn.Module):
    """L_A = -mean over the batch of h(A_1, ..., A_M) (Eqs. 1 and 2, Algorithm 1); lower is better.

    The model is evaluated with its running BatchNorm statistics and without dropout, and is left
    as it was. Needs no labels::

        consistency = ConsistencyLoss(model)
        for images in loader:
            optimizer.zero_grad()
            consistency(images).backward()
            optimizer.step()

    With `logit_weight` w the mean over the batch of w KL(p(x) || p(P x)) is added, the divergence
    of the predictions under the mask from those without, which are a constant.
    """

    details: ConsistencyDetails | None = None
    """Of the last call; None before the first."""

    progress: float = 0.0
    """Share of the training that is over, in [0, 1]; the training loop sets it if masks anneal."""

    def __init__(  # noqa: PLR0913  every choice is one keyword, and a preset has them all
        self,
        model: nn.Module,
        layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
        *,
        preset: str | Preset = "default",
        maps: Sequence[str | Attention] | None = None,
        matching: str | Matching | None = None,
        mask: str | Mask | None = None,
        mask_options: MaskOptions | None = None,
        correlation: str | Correlation | None = None,
        detach_mask: bool | None = None,
        squash: bool | None = None,
        mirror: bool | None = None,
        logit_weight: float | None = None,
        multi_label: bool = False,
        teacher: nn.Module | None = None,
        target: Target = None,
        batch_statistics: bool = False,
        micro_batch: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Choose what is compared; a keyword overrides the preset.

        Args:
            model: Any network that the maps can explain.
            layer: Name or module to explain; None finds it on the first batch; with several, the
                mean over them is taken.
            preset: A name of `PRESETS`, or your own.
            maps: A_1, A_2, ...: names of `ATTENTION`. With matching "mask" every map is measured
                under the masks of those after it.
            matching: A name of `MATCHINGS`.
            mask: A name of `MASKS`, or a function from maps to masks in (0, 1).
            mask_options: Blur, temperature, noise, floor and strength of the mask, fixed or drawn.
            correlation: A name of `CORRELATIONS`, or a function of two maps.
            detach_mask: Whether the mask is a constant for the gradient (2.33 instead of 3.0
                supervised steps, at the floor).
            squash: Whether maps are standardised and squashed before they are correlated.
            mirror: Whether the second pass sees the masked images mirrored along their last axis;
                its maps are mirrored back.
            logit_weight: w of the disagreement of the predictions; 0 leaves it out.
            multi_label: Whether predictions are one decision for each class (logistic) or a
                distribution over them (softmax).
            teacher: A second network of the same layer names, such as an average of the weights or
                a copy of the start: it alone sees the unmasked images and gives the class, the
                first maps, the masks and the predictions to keep, all constants; the model is
                trained on the masked images. It is no part of this module: not saved, trained or
                moved with it.
            target: What to explain: None for the top predicted class, "positive" for all predicted
                ones of a multi-label network, an index, a tensor, or a rule on the logits.
            batch_statistics: Let BatchNorm use each batch's statistics: samples then interact.
            micro_batch: Take value and gradients of so many images at a time: the same loss with
                the memory of that many. The gradients are those of the model's parameters.
            generator: Draws what is left open for the masks.

        Raises:
            InputError: A name is in no table (the nearest is given), or choices exclude each other.
        """
        super().__init__()
        chosen: Preset = named("preset", preset, PRESETS)
        given = {
            "maps": None if maps is None else tuple(maps),
            "matching": matching,
            "mask": mask,
            "mask_options": mask_options,
            "correlation": correlation,
            "detach_mask": detach_mask,
            "squash": squash,
            "mirror": mirror,
            "logit_weight": logit_weight,
        }
        overrides: dict[str, Any] = {
            key: value for key, value in given.items() if value is not None
        }
        self.preset = replace(chosen, **overrides)
        self.method = method_of(self.preset, batch_statistics=batch_statistics)
        self.model = model
        self.multi_label = multi_label
        self.target = target
        self.micro_batch = micro_batch
        self.generator = generator
        self.layer_name: str | None = None
        self._wanted: list[str | nn.Module | None] = (  # a list: its modules are not children
            [layer] if layer is None or isinstance(layer, str | nn.Module) else list(layer)
        )
        self._teachers = [] if teacher is None else [teacher]  # a list, for the same reason
        self._images = 0  # of the last call
        self._check_batches()

    @property
    def mask(self) -> Mask:
        """From a map to P as evaluation has it, before its strength."""
        return make_mask(self.method.mask, self.method.mask_options)

    @property
    def teacher(self) -> nn.Module | None:
        """The network that sees the unmasked images; None: the model itself."""
        return self._teachers[0] if self._teachers else None

    def forward(self, images: Images) -> Float[Tensor, ""]:
        """Give the loss of a normalised batch and keep its `details`.

        It is NaN, and so is the image's correlation in `details`, where an image, its maps or its
        logits hold a value that is not finite.
        """
        with gathered_weights(self.model):
            weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        wanted = torch.is_grad_enabled() and (bool(weights) or images.requires_grad)
        if wanted:
            check_synchronised(self, first=self.details is None)
        draws = self.generator if self.preset.mask_options.random else None
        self._images = len(images)
        parts = self._parts(images, draws, create_graph=wanted)
        if wanted and self.micro_batch:
            taken = Gathered(weights, half=in_float16(images))
            found = Comparison.joined([self._taken(part, taken, images) for part in parts])
            comparison = _marked(found, images)
            value = taken.hand_over(self._each(comparison).mean())
        else:
            comparison = _marked(Comparison.joined(list(parts)), images)
            value = self._each(comparison).mean()
        self.details = ConsistencyDetails.of(
            comparison, self.layer_name or "", self._disagreement(comparison.detached())
        )
        return value

    @property
    def taken(self) -> int:
        """How many images at a time the last call took; 0 before the first."""
        return at_a_time(self.micro_batch, self._images)

    def halve(self) -> int | None:
        """Let the next call take half as many images at a time as the last.

        For a step that is taken again because memory ran out, in the call or in `backward()`::

            try:
                consistency(images).backward()
            except torch.OutOfMemoryError:
                optimizer.zero_grad()
                consistency.halve()  # and again, outside of this block, which keeps the tensors

        What the masks draw is drawn anew, unless the state of the generator is put back.

        Returns:
            The new `micro_batch`; None where it cannot be smaller: it is one image, or samples
            interact.
        """
        smaller = halved(self.taken, interact=self._interact())
        self.micro_batch = smaller or self.micro_batch
        return smaller

    def compare(
        self, images: Images, *, also: Sequence[str] = (), create_graph: bool = False
    ) -> Comparison:
        """Give the maps and their agreement; without a graph unless asked for one.

        Nothing is drawn: a range of the mask has its middle, of what anneals at the end.

        Args:
            images: A normalised batch.
            also: Names of further maps of the images to keep in `maps`.
            create_graph: Whether the correlation can be differentiated with respect to the weights.
        """
        return Comparison.joined(
            list(self._parts(images, None, also=also, create_graph=create_graph))
        )

    def _parts(
        self,
        images: Tensor,
        draws: torch.Generator | None,
        *,
        also: Sequence[str] = (),
        create_graph: bool,
    ) -> Iterator[Comparison]:
        """Compare the batch, or one micro-batch after the other."""
        size = self.micro_batch or max(len(images), 1)
        layers = self._layers(images, also)
        method, drawn = self.method, dict[str, Tensor]()
        if draws is not None:
            options = self.preset.mask_options
            drawn = dict(draw(options, len(images), method.masks, draws))
            method = replace(method, mask_options=at_progress(options, float(self.progress)))
        target = self.target if len(images) <= size else self._target_of_all(images, size)
        for start in range(0, max(len(images), 1), size):
            part = slice(start, start + size)
            yield compare(
                self.model,
                images[part],
                layers,
                method,
                target=target[part] if isinstance(target, Tensor) else target,
                draws={kind: shares[part] for kind, shares in drawn.items()},
                also=also,
                create_graph=create_graph,
                teacher=self._teacher(images, layers),
            )

    def _each(self, comparison: Comparison) -> Tensor:
        """Give the loss of each image."""
        apart = self._disagreement(comparison)
        each = -comparison.correlation
        return each if apart is None else each + self.preset.logit_weight * apart

    def _disagreement(self, comparison: Comparison) -> Tensor | None:
        """Give that of each image's predictions; None without a weight."""
        if not self.preset.logit_weight:
            return None
        return disagreement(comparison, multi_label=self.multi_label)

    def _taken(self, part: Comparison, taken: Gathered, images: Tensor) -> Comparison:
        """Take the gradients of a micro-batch's share of the loss and let its graph go."""
        if images.requires_grad:
            raise InputError("micro_batch gives no gradient of the images: leave it out for that")
        taken.add(self._each(part).sum() / len(images))
        return part.detached()

    def _target_of_all(self, images: Tensor, size: int) -> Target:
        """Apply a rule on the logits to all of them: it may know one class for each image."""
        if isinstance(self.target, Tensor) or not callable(self.target):
            return self.target
        first = self.teacher or self.model
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        logits = [trace(first, part, gradients=False).logits for part in parts]
        return torch.as_tensor(self.target(torch.cat(logits)))

    def _layers(self, images: Tensor, also: Sequence[str]) -> dict[str, nn.Module]:
        """Find the layers that the maps need; each is kept by name once it is found."""
        used = [attention for _, attention in self.method.maps] + [*map(attention_named, also)]
        if all(attention.resolution != "layer" for attention in used):
            return {}
        kind = self.preset.layer
        layers = dict(resolve_layer(self.model, one, images, kind) for one in self._wanted)
        self._wanted = list(layers)
        self.layer_name = ", ".join(layers)
        return layers

    def _teacher(self, images: Tensor, layers: dict[str, nn.Module]) -> Teacher | None:
        """Find the teacher's layers by the names of the model's."""
        if self.teacher is None:
            return None
        found = [resolve_layer(self.teacher, name, images) for name in layers]
        return Teacher(self.teacher, dict(found))

    def _interact(self) -> bool:
        """Whether BatchNorm makes a map depend on the other images of its batch."""
        networks = [self.model, *self._teachers]
        norms = [m for network in networks for m in network.modules() if isinstance(m, _BatchNorm)]
        return self.method.batch_statistics or any(norm.running_mean is None for norm in norms)

    def _check_batches(self) -> None:
        if self.teacher is not None:
            self.method.taught()
        interact = self._interact()
        if self.micro_batch is not None and self.micro_batch < 1:
            raise InputError(f"micro_batch must be 1 or larger, but it is {self.micro_batch}")
        if self.micro_batch and interact:
            raise InputError(
                "micro_batch needs samples that do not interact, but BatchNorm uses the "
                "statistics of the batch: leave one of the two out"
            )
        options = self.preset.mask_options
        if options.random and self.generator is None:
            what = " and ".join(f"{kind} {getattr(options, kind)}" for kind in options.drawn)
            raise InputError(
                f"mask {what} is drawn at random: give generator=torch.Generator().manual_seed(...)"
            )
        if interact:
            cause = "batch_statistics=True" if self.method.batch_statistics else "no running ones"
            warnings.warn(
                f"BatchNorm uses the statistics of each batch ({cause}): samples interact, so a "
                "map depends on the other images of its batch and is no longer its own image's",
                UserWarning,
                stacklevel=3,
            )


def _marked(comparison: Comparison, images: Tensor) -> Comparison:
    """Give images with a value that is not finite no correlation; maps of NaN look constant."""
    finite = comparison.finite & images.isfinite().flatten(1).all(dim=1)
    return replace(comparison, correlation=comparison.correlation.masked_fill(~finite, torch.nan))
