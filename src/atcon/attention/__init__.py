"""Attention functions g(f, x) -> A: batched, differentiable, for any network."""

from atcon.attention.cam import cam
from atcon.attention.coverage import Coverage, coverage
from atcon.attention.explain import attention_named, explain
from atcon.attention.grad_cam import grad_cam
from atcon.attention.gradient import gradient, gradient_times_input
from atcon.attention.guided_backprop import count_guided, guided_backprop
from atcon.attention.hires_cam import hires_cam
from atcon.attention.integrated_gradients import integrated_gradients
from atcon.attention.layer_cam import layer_cam
from atcon.attention.layers import LayerKind, find_layer, resolve_layer
from atcon.attention.method import Attention
from atcon.attention.occlusion import occlusion
from atcon.attention.rise import rise
from atcon.attention.rollout import attention_rollout, gradient_rollout
from atcon.attention.smooth_grad import smooth_grad
from atcon.attention.table import ATTENTION
from atcon.attention.target import TARGETS, choose_classes, logits_of, selected
from atcon.attention.trace import Trace, trace, without_autocast

__all__ = [
    "ATTENTION",
    "TARGETS",
    "Attention",
    "Coverage",
    "LayerKind",
    "Trace",
    "attention_named",
    "attention_rollout",
    "cam",
    "choose_classes",
    "count_guided",
    "coverage",
    "explain",
    "find_layer",
    "grad_cam",
    "gradient",
    "gradient_rollout",
    "gradient_times_input",
    "guided_backprop",
    "hires_cam",
    "integrated_gradients",
    "layer_cam",
    "logits_of",
    "occlusion",
    "resolve_layer",
    "rise",
    "selected",
    "smooth_grad",
    "trace",
    "without_autocast",
]
