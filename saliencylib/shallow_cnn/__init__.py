"""Paper 2: the shallow saliency network of Pan et al. (CVPR 2016), re-implemented."""

from saliencylib._lazy import lazily

NAMES = {
    "shallow_saliency_cnn": "saliencylib.shallow_cnn.network",
}
__getattr__, __dir__ = lazily(__name__, NAMES)
