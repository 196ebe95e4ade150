"""Networks by name, their weights, and what they expect of their input."""

from atcon.models.build import Network, build
from atcon.models.families import ONLINE, names
from atcon.models.weights import load_weights, save_weights

__all__ = ["ONLINE", "Network", "build", "load_weights", "names", "save_weights"]
