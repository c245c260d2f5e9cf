"""Three saliency papers, rerun. What the notebooks are made of, and what you can use on your own pictures:

    region_contrast       RC saliency of an image (Cheng et al. 2015)
    histogram_contrast    HC saliency of an image (the same paper)
    frequency_tuned       FT saliency of an image (Achanta et al. 2009)
    luminance_contrast    LC saliency of an image (Zhai and Shah 2006)
    spectral_residual     SR saliency of an image (Hou and Zhang 2007)
    alpha_matte           a soft foreground matte, seeded without a user (Levin et al. 2008)
    SalMask               a classifier whose first feature maps are multiplied by a saliency map (paper 1)
    shallow_saliency_cnn  the network that predicts where people look (paper 2)
    score                 CC, SIM, KL, NSS and the AUCs of saliency maps against fixations
    LICNN                 attention and saliency maps of a classifier by lateral inhibition (paper 3)
    lateral_inhibition    the inhibition of maps, equation 3 of that paper
    attribute             one call for LICNN and captum's attribution methods
    METHODS               the names of these methods
    load_classifier       a trained ImageNet classifier, ready for attribution
    as_classifier         your own network, made ready for attribution
    show                  a map over its photograph, as a matplotlib figure

Each paper has a folder (sal_mask, shallow_cnn, licnn), with its method, trainings, results and figures; data
loads the sets, study runs and judges. Names are imported when they are first used.
"""

import warnings

from saliencylib._lazy import lazily

__version__ = "0.2.0"
NAMES = {
    "LICNN": "saliencylib.licnn.method",
    "METHODS": "saliencylib.licnn.attribution",
    "SalMask": "saliencylib.sal_mask.network",
    "alpha_matte": "saliencylib.saliency",
    "as_classifier": "saliencylib.licnn.classifiers",
    "attribute": "saliencylib.licnn.attribution",
    "frequency_tuned": "saliencylib.saliency",
    "histogram_contrast": "saliencylib.saliency",
    "lateral_inhibition": "saliencylib.licnn.method",
    "load_classifier": "saliencylib.licnn.classifiers",
    "luminance_contrast": "saliencylib.saliency",
    "region_contrast": "saliencylib.saliency",
    "score": "saliencylib.metrics",
    "shallow_saliency_cnn": "saliencylib.shallow_cnn.network",
    "show": "saliencylib.figures",
    "spectral_residual": "saliencylib.saliency",
}
__getattr__, __dir__ = lazily(__name__, NAMES)

# Imported in a notebook, tqdm (through timm and captum) asks for ipywidgets, which nothing here needs.
warnings.filterwarnings("ignore", message="IProgress not found")
