"""Agreement between attention maps: correlations, masks, Algorithm 1 and the loss."""

from atcon.consistency.compare import Comparison, between_images, compare, entropy, mask_contrast
from atcon.consistency.correlation import CORRELATIONS, pearson
from atcon.consistency.loss import PRESETS, ConsistencyDetails, ConsistencyLoss, Preset
from atcon.consistency.masks import MASKS

__all__ = [
    "CORRELATIONS",
    "MASKS",
    "PRESETS",
    "Comparison",
    "ConsistencyDetails",
    "ConsistencyLoss",
    "Preset",
    "between_images",
    "compare",
    "entropy",
    "mask_contrast",
    "pearson",
]
