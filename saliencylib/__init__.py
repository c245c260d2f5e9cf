"""Helpers behind the notebooks: data, saliency maps, networks, training, metrics, claims and figures."""

__version__ = "0.1.0"
