"""Data sets: what they are (datasets.toml), where they lie, and one loader for each.

Every set lies below one data root, ``$SALIENCY_DATA`` or else ``data`` in the project. Loaders never touch
the network; ``download`` does, when called. ``verify`` checks everything that is known of a set.
"""

from saliencylib._lazy import lazily

NAMES = {
    "REGISTRY": "saliencylib.data.registry",
    "DataInvalid": "saliencylib.data.registry",
    "DataNotFound": "saliencylib.data.registry",
    "DataSet": "saliencylib.data.registry",
    "available": "saliencylib.data.registry",
    "download": "saliencylib.data.get",
    "fingerprint": "saliencylib.data.checks",
    "verify": "saliencylib.data.checks",
    "Labelled": "saliencylib.data.images",
    "Segmented": "saliencylib.data.images",
    "clothing96": "saliencylib.data.images",
    "downscaled": "saliencylib.data.images",
    "named_objects": "saliencylib.data.images",
    "rc_reference": "saliencylib.data.images",
    "stl10": "saliencylib.data.images",
    "tinyimagenet10": "saliencylib.data.images",
    "FixationSet": "saliencylib.data.fixations",
    "Recovered": "saliencylib.data.fixations",
    "SaliconSet": "saliencylib.data.fixations",
    "fixation_set": "saliencylib.data.fixations",
    "osie_mouse": "saliencylib.data.fixations",
    "salicon": "saliencylib.data.fixations",
    "salicon_val_recovered": "saliencylib.data.fixations",
    "people": "saliencylib.data.boxes",
    "unknown_objects": "saliencylib.data.boxes",
    "PhotoSet": "saliencylib.data.photosets",
    "imagenet_a": "saliencylib.data.photosets",
    "imagenet_samples": "saliencylib.data.photosets",
    "imagenet_val": "saliencylib.data.photosets",
    "imagenet_val_50000": "saliencylib.data.photosets",
    "judging": "saliencylib.data.photosets",
    "nips2017_dev": "saliencylib.data.photosets",
    "photographs": "saliencylib.data.photosets",
}
__getattr__, __dir__ = lazily(__name__, NAMES)
