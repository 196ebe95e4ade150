"""Agreement between attention maps: correlations, matchings, masks, Algorithm 1 and the loss."""

from atcon.consistency.choices import PRESETS, Method, Preset, method_of
from atcon.consistency.compare import compare
from atcon.consistency.comparison import Comparison, Pair
from atcon.consistency.correlation import CORRELATIONS, cross_correlation, pearson
from atcon.consistency.details import (
    ConsistencyDetails,
    between_images,
    contrast_of,
    entropy,
    mask_contrast,
)
from atcon.consistency.loss import ConsistencyLoss
from atcon.consistency.mask_options import MaskOptions, at_progress
from atcon.consistency.masks import MASKS
from atcon.consistency.matching import MATCHINGS, Matching
from atcon.consistency.monitoring import MONITORED, monitored_losses
from atcon.consistency.prediction import disagreement, divergence
from atcon.consistency.ssim import ssim, structural_similarity
from atcon.consistency.teacher import Teacher, update_teacher

__all__ = [
    "CORRELATIONS",
    "MASKS",
    "MATCHINGS",
    "MONITORED",
    "PRESETS",
    "Comparison",
    "ConsistencyDetails",
    "ConsistencyLoss",
    "MaskOptions",
    "Matching",
    "Method",
    "Pair",
    "Preset",
    "Teacher",
    "at_progress",
    "between_images",
    "compare",
    "contrast_of",
    "cross_correlation",
    "disagreement",
    "divergence",
    "entropy",
    "mask_contrast",
    "method_of",
    "monitored_losses",
    "pearson",
    "ssim",
    "structural_similarity",
    "update_teacher",
]
