"""A user's own module, type-checked against the installed wheel: what we give has types that help.

An error that is expected is ignored by its code; mypy --strict refuses an ignore without an error.
"""

from typing import assert_type

import torch
from torch import nn

from atcon import Check, ConsistencyLoss, check, explain, find_layer, grad_cam


def fine_tune(model: nn.Module, images: torch.Tensor) -> float:
    """Use every public function as the README does."""
    layer = find_layer(model, images)
    consistency = ConsistencyLoss(model, layer, maps=("grad_cam", "gradient"))
    assert_type(check(model, images), Check)
    assert_type(explain(model, images, "smooth_grad", target=1), torch.Tensor)
    assert_type(explain(model, images, layer=[layer, "stem"]), list[torch.Tensor])
    assert_type(grad_cam(model, images), torch.Tensor)
    return float(consistency(images))


ConsistencyLoss(3)  # type: ignore[arg-type]
explain(nn.Identity(), "picture.jpg")  # type: ignore[call-overload]
