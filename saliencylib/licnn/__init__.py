"""Paper 3: lateral inhibition over a classifier's ReLUs (Cao et al., AAAI 2018), reproduced."""

from saliencylib._lazy import lazily

NAMES = {
    "LICNN": "saliencylib.licnn.method",
    "lateral_inhibition": "saliencylib.licnn.method",
    "METHODS": "saliencylib.licnn.attribution",
    "attribute": "saliencylib.licnn.attribution",
    "load_classifier": "saliencylib.licnn.classifiers",
    "as_classifier": "saliencylib.licnn.classifiers",
    "randomized": "saliencylib.licnn.sanity",
    "hog_similarity": "saliencylib.licnn.sanity",
    "spearman_similarity": "saliencylib.licnn.sanity",
}
__getattr__, __dir__ = lazily(__name__, NAMES)
