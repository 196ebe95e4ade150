"""What the method is compared with: other ways to make a network of a few images."""

from atcon.baselines.combine import sum_of
from atcon.baselines.features import features_of, head_input
from atcon.baselines.fixmatch import FixMatchLoss, fixmatch_loss, fixmatch_step, pseudo_labels
from atcon.baselines.inner_layer import inner_and_last
from atcon.baselines.laso import LaSOLoss, fit_classifier, laso_step, union_features
from atcon.baselines.laso_losses import OPERATIONS, laso_losses
from atcon.baselines.laso_networks import LaSO
from atcon.baselines.layer_attention import (
    LayerAttentionDetails,
    LayerAttentionLoss,
    attention_consistency,
    attention_separability,
    layer_attention_maps,
    layer_attention_step,
)
from atcon.baselines.simclr import Queue, SimCLRLoss, nt_xent, simclr_step
from atcon.baselines.two_views import ViewBatch

__all__ = [
    "OPERATIONS",
    "FixMatchLoss",
    "LaSO",
    "LaSOLoss",
    "LayerAttentionDetails",
    "LayerAttentionLoss",
    "Queue",
    "SimCLRLoss",
    "ViewBatch",
    "attention_consistency",
    "attention_separability",
    "features_of",
    "fit_classifier",
    "fixmatch_loss",
    "fixmatch_step",
    "head_input",
    "inner_and_last",
    "laso_losses",
    "laso_step",
    "layer_attention_maps",
    "layer_attention_step",
    "nt_xent",
    "pseudo_labels",
    "simclr_step",
    "sum_of",
    "union_features",
]
