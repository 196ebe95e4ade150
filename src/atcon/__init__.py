"""atcon: attention maps that agree, checkpoints that improve, evidence that holds.

The public names are loaded on first use, so that `import atcon` does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from atcon.errors import AtconError, BadImageError, InputError

if TYPE_CHECKING:
    from atcon.attention import explain, find_layer, grad_cam, guided_backprop
    from atcon.consistency import ConsistencyDetails, ConsistencyLoss
    from atcon.inspection import Check, check

__version__ = "0.1.0"

_HOMES = {
    "Check": "atcon.inspection",
    "ConsistencyDetails": "atcon.consistency",
    "ConsistencyLoss": "atcon.consistency",
    "check": "atcon.inspection",
    "explain": "atcon.attention",
    "find_layer": "atcon.attention",
    "grad_cam": "atcon.attention",
    "guided_backprop": "atcon.attention",
}

__all__ = [
    "AtconError",
    "BadImageError",
    "Check",
    "ConsistencyDetails",
    "ConsistencyLoss",
    "InputError",
    "__version__",
    "check",
    "explain",
    "find_layer",
    "grad_cam",
    "guided_backprop",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'atcon' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
