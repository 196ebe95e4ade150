"""The table of attention maps: the library, the configurations and the command line read it."""

from atcon.attention.cam import cam
from atcon.attention.grad_cam import grad_cam
from atcon.attention.gradient import gradient, gradient_times_input
from atcon.attention.guided_backprop import guided_backprop
from atcon.attention.hires_cam import hires_cam
from atcon.attention.integrated_gradients import integrated_gradients
from atcon.attention.layer_cam import layer_cam
from atcon.attention.method import Attention
from atcon.attention.occlusion import occlusion
from atcon.attention.rise import rise
from atcon.attention.rollout import attention_rollout, gradient_rollout
from atcon.attention.smooth_grad import smooth_grad

ATTENTION: dict[str, Attention] = {
    "grad_cam": grad_cam,
    "guided_backprop": guided_backprop,
    "gradient": gradient,
    "gradient_times_input": gradient_times_input,
    "cam": cam,
    "integrated_gradients": integrated_gradients,
    "smooth_grad": smooth_grad,
    "layer_cam": layer_cam,
    "hires_cam": hires_cam,
    "attention_rollout": attention_rollout,
    "gradient_rollout": gradient_rollout,
    "rise": rise,
    "occlusion": occlusion,
}
"""Every attention map by its name."""
