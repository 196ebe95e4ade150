"""The table of attention maps: the library, the configurations and the command line read it."""

from atcon.attention.grad_cam import grad_cam
from atcon.attention.guided_backprop import guided_backprop
from atcon.attention.method import Attention

ATTENTION: dict[str, Attention] = {
    "grad_cam": grad_cam,
    "guided_backprop": guided_backprop,
}
"""Every attention map by its name."""
