"""Attention functions g(f, x) -> A: batched, differentiable, for any network."""

from atcon.attention.grad_cam import grad_cam, grad_cam_of
from atcon.attention.guided_backprop import count_guided, guided_backprop, guided_backprop_of
from atcon.attention.layers import LayerKind, find_layer, resolve_layer
from atcon.attention.trace import Trace, choose_classes, logits_of, trace

ATTENTION = {"grad_cam": grad_cam, "guided_backprop": guided_backprop}
"""Every attention map by its name."""

__all__ = [
    "ATTENTION",
    "LayerKind",
    "Trace",
    "choose_classes",
    "count_guided",
    "find_layer",
    "grad_cam",
    "grad_cam_of",
    "guided_backprop",
    "guided_backprop_of",
    "logits_of",
    "resolve_layer",
    "trace",
]
