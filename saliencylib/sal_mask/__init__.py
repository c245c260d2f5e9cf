"""Paper 1: a saliency map multiplied into a classifier's first feature maps (Wang et al., ICIG 2015)."""

from saliencylib._lazy import lazily

NAMES = {
    "SalMask": "saliencylib.sal_mask.network",
    "alexnet": "saliencylib.sal_mask.network",
    "nin": "saliencylib.sal_mask.network",
}
__getattr__, __dir__ = lazily(__name__, NAMES)
