"""How far the predictions on the masked images are from those on the images themselves."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from atcon.attention import without_autocast
from atcon.attention.trace import in_single_precision
from atcon.consistency.comparison import Comparison
from atcon.errors import InputError
from atcon.types import Logits


def disagreement(comparison: Comparison, *, multi_label: bool) -> Float[Tensor, " batch"]:
    """KL(p(x) || p(P x)) of each image, the mean over its masks; p(x) is a constant.

    Raises:
        InputError: Nothing was masked.
    """
    if not comparison.masked_logits:
        raise InputError("there are no predictions on masked images: choose matching 'mask'")
    target = comparison.logits.detach()
    with without_autocast(target.device):
        found = [
            divergence(target, logits, multi_label=multi_label)
            for logits in comparison.masked_logits
        ]
        return torch.stack(found).mean(dim=0)


def divergence(target: Logits, logits: Logits, *, multi_label: bool) -> Float[Tensor, " batch"]:
    """KL divergence of predictions from those of a target; 0 where they agree.

    With q of the target and p of the logits, either for every class on its own, the mean over the
    classes, as the supervised loss has it: q log(q / p) + (1 - q) log((1 - q) / (1 - p)), which is
    the binary cross-entropy with soft targets less their entropy; or over all classes,
    sum_c q_c log(q_c / p_c).

    Args:
        target: Whose distribution is the first argument of KL(q || p).
        logits: Of the same shape.
        multi_label: Whether each class is a decision of its own (logistic), or they are
            alternatives (softmax).
    """
    target, logits = in_single_precision(target), in_single_precision(logits)
    if multi_label:
        yes = target.sigmoid() * (functional.logsigmoid(target) - functional.logsigmoid(logits))
        no = (-target).sigmoid() * (functional.logsigmoid(-target) - functional.logsigmoid(-logits))
        return (yes + no).mean(dim=1)
    log_target = target.log_softmax(dim=1)
    return (log_target.exp() * (log_target - logits.log_softmax(dim=1))).sum(dim=1)
