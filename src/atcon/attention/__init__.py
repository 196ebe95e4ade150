"""Attention functions g(f, x) -> A: batched, differentiable, for any network."""

from atcon.attention.explain import attention_named, explain
from atcon.attention.grad_cam import grad_cam
from atcon.attention.guided_backprop import count_guided, guided_backprop
from atcon.attention.layers import LayerKind, find_layer, resolve_layer
from atcon.attention.method import Attention
from atcon.attention.table import ATTENTION
from atcon.attention.target import TARGETS, choose_classes, logits_of, selected
from atcon.attention.trace import Trace, trace, without_autocast

__all__ = [
    "ATTENTION",
    "TARGETS",
    "Attention",
    "LayerKind",
    "Trace",
    "attention_named",
    "choose_classes",
    "count_guided",
    "explain",
    "find_layer",
    "grad_cam",
    "guided_backprop",
    "logits_of",
    "resolve_layer",
    "selected",
    "trace",
    "without_autocast",
]
