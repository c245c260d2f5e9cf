"""Helpers behind the notebooks: data, saliency maps, networks, training, metrics, claims and figures."""

import warnings

__version__ = "0.1.0"

# Imported in a notebook, tqdm (through timm and captum) asks for ipywidgets, which nothing here needs.
warnings.filterwarnings("ignore", message="IProgress not found")
