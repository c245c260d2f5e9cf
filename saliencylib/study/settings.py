"""Sizes, seeds, lengths and recipes of every run: what the profiles and schedules mean.

Accuracy needs seeds: many small runs decide more than one long one.
"""

from collections.abc import Mapping

from saliencylib.study.plan import RUNS

# Paper 1. `pool_per_class` and `test_per_class` images of each class are read (None: all), of which each seed
# draws `train_per_class` (0: all). `rates` are the learning rates that are tried. `seeds` are those of the
# main comparison; the other `..._seeds` are those of its parts, `all_seeds` those on all training images.
# `digits` are the trainings on the embedded set, with the exact mask degraded in so many `steps`.
_SAL_MASK = {
    "shrink": 1,
    "pool_per_class": None,
    "train_per_class": 100,
    "test_per_class": None,
    "seeds": 90,
    "few_seeds": 6,
    "raw_seeds": 10,
    "all_seeds": 10,
    "rates": (0.0005, 0.001, 0.002, 0.004),
    "rate_seeds": 6,
    "epochs": {"alexnet": 8, "nin": 24},
    "widths": {"alexnet": 0.25, "nin": 0.25},
    "dropout": 0.0,
    "batch": 16,
    "optimiser": "adamw",
    "learning_rates": {"alexnet": 0.001, "nin": 0.004},
    "width_shrink": 2,
    "width_seeds": 6,
    "second": None,
    "second_per_class": 100,
    "second_shrink": 1,
    "digits": {"train": 1000, "test": 300, "shrink": 3, "seeds": 20, "graded_seeds": 6, "steps": 10},
    "noise_masks": ("plain", "grey", "RC", "Alpha", "true"),
    "quality_data": "rc_reference",
    "quality_images": 100,
    "control_networks": ("alexnet",),
    "width_networks": ("alexnet",),
}
_SAL_MASK_QUICK = {
    "shrink": 4,
    "pool_per_class": 60,
    "train_per_class": 0,
    "test_per_class": 20,
    "seeds": 6,
    "few_seeds": 1,
    "raw_seeds": 1,
    "all_seeds": 0,
    "rates": (0.001, 0.002),
    "rate_seeds": 1,
    "epochs": {"alexnet": 12, "nin": 2},
    "widths": {"alexnet": 0.1875, "nin": 0.125},
    "learning_rates": {"alexnet": 0.002, "nin": 0.004},
    "width_shrink": 8,
    "width_seeds": 1,
    "digits": {"train": 600, "test": 200, "shrink": 4, "seeds": 1, "graded_seeds": 1, "steps": 4},
    "noise_masks": ("plain", "grey", "RC"),
    "quality_data": "cluttered digits",
    "quality_images": 20,
    "data": "cluttered digits",
    "shown": "cluttered digits",
}
_SAL_MASK_FULL = {
    "train_per_class": 0,
    "seeds": 10,
    "all_seeds": 0,
    "epochs": {"alexnet": 120, "nin": 120},
    "widths": {"alexnet": 1.0, "nin": 1.0},
    "dropout": 0.5,
    "batch": 100,
    "optimiser": "sgd",
    "learning_rates": {"alexnet": 0.001, "nin": 0.001},
    "width_shrink": 1,
    "digits": {"train": 5000, "test": 1000, "shrink": 1, "seeds": 10, "graded_seeds": 6, "steps": 10},
    "control_networks": ("alexnet", "nin"),
    "width_networks": ("alexnet", "nin"),
}
_TINY = {"data": "tinyimagenet10", "shown": "clothing96", "second": "clothing96"}
_STL10 = {"data": "stl10", "shown": "cluttered digits", "quality_data": "cluttered digits"}

# Paper 2. `seeds` are those of MSE and L1, of which `run_on` do not stop at their best epoch; `few_seeds`
# those of the other losses and of the variants. The network of the paper's size trains `exact_epochs` with
# the same recipe. `watched` are the starts, optimisers and learning rates whose first `plateau_steps` steps
# are followed in the run's own network; where that is a small one, the exact network takes `exact_steps` from
# the paper's start.
_WATCHED = (("paper", "sgd", 0.03), ("he", "adamw", 0.0005), ("mean map", "adamw", 0.0005))
_SHALLOW = {
    "recipe": "stopped in time",
    "changes": {},
    "losses": ("mse", "l1"),
    "other_losses": ("kl", "bhattacharyya", "bce"),
    "seeds": 10,
    "few_seeds": 6,
    "run_on": 6,
    "exact_epochs": 4,
    "train_images": None,
    "test_images": None,
    "watched": _WATCHED,
    "plateau_steps": 160,
    "exact_steps": 40,
}
_SHALLOW_QUICK = {
    "changes": {"patience": 4},
    "seeds": 6,
    "few_seeds": 0,
    "run_on": 0,
    "exact_epochs": 0,
    "train_images": 300,
    "test_images": 60,
    "watched": _WATCHED[:1] + _WATCHED[-1:],
    "plateau_steps": 40,
    "exact_steps": 0,
}
_SHALLOW_FULL = {
    "recipe": "as printed",
    "seeds": 6,
    "exact_epochs": 0,
    "plateau_steps": 400,
    "exact_steps": 0,
}

# Paper 3. Sets are named with a number of photographs (None: all). `filter_by` is the classifier whose errors
# make the adversarial set of the photographs named; VGG-16 is tested on ImageNet-A as it is. Localisation is
# measured on so many `boxes` photographs of imagenet_val, or, without, on digits. `objects` are those whose
# class the classifier may not know. `judged` is the rule for the region whose
# blur is judged: the printed one, or a share of the picture.
_LICNN = {
    "classifier": "efficientnet_lite0",
    "filter_by": "efficientnet_lite1",
    "shown": "photographs",
    "examples": 8,
    "shown_count": 6,
    "people": ("photographs",),
    "objects": "digits",
    "boxes": 0,
    "composites": 8,
    "sanity_images": 8,
    "seeds": 2,
    "methods": ("LICNN", "Gradient", "Gradient x Input", "Integrated Gradients")
    + ("SmoothGrad", "Guided Backprop", "Grad-CAM", "Guided Grad-CAM"),
    "batch": 8,
    "judged": 0.35,
    "digits": {"train": 2000, "test": 200, "epochs": 12, "shrink": 2},
}
_LICNN_QUICK = {
    "natural": (("photographs", None),),
    "adversarial": (("photographs", None),),
    "sanity_images": 2,
    "seeds": 1,
    "methods": ("LICNN", "Gradient", "Gradient x Input", "Grad-CAM"),
    "digits": {"train": 600, "test": 40, "epochs": 8, "shrink": 3},
}
_LICNN_MINI = {
    "shown": "nips2017_dev",
    "examples": 24,
    "people": ("photographs", "nips2017_dev"),
    "objects": "rc_reference",
    "boxes": 200,
    "composites": 100,
    "natural": (("imagenet_val", 600), ("nips2017_dev", 150)),
    "adversarial": (("imagenet_val", None), ("nips2017_dev", None)),
}
_LICNN_MINI_FULL = {
    "examples": 100,
    "boxes": 1810,
    "natural": (("imagenet_val", None), ("nips2017_dev", None)),
    "sanity_images": 24,
}
_LICNN_FULL = {"seeds": 5, "batch": 64}
_VGG16 = {"classifier": "vgg16", "filter_by": None, "judged": "printed"}

SETTINGS: Mapping[str, dict[str, dict]] = {
    "01_sal_mask": {
        "quick": _SAL_MASK | _SAL_MASK_QUICK,
        "mini-short": _SAL_MASK | _TINY | {"second_shrink": 2},
        "mini-full": _SAL_MASK | _SAL_MASK_FULL | _TINY,
        "paper-short": _SAL_MASK | _STL10,
        "paper-full": _SAL_MASK | _SAL_MASK_FULL | _STL10,
    },
    "02_shallow_saliency_cnn": {
        "quick": _SHALLOW | _SHALLOW_QUICK,
        "mini-short": _SHALLOW,
        "mini-full": _SHALLOW | _SHALLOW_FULL | {"changes": {"bf16": True}},
        "paper-short": _SHALLOW | {"train_images": 2000, "test_images": 500},
        "paper-full": _SHALLOW | _SHALLOW_FULL,
    },
    "03_licnn": {
        "quick": _LICNN | _LICNN_QUICK,
        "mini-short": _LICNN | _LICNN_MINI,
        "mini-full": _LICNN | _LICNN_MINI | _LICNN_MINI_FULL | _LICNN_FULL,
        "paper-short": _LICNN
        | _VGG16
        | {"natural": (("imagenet_val_50000", 600),), "adversarial": (("imagenet_a", 600),)},
        "paper-full": _LICNN
        | _VGG16
        | _LICNN_FULL
        | {"natural": (("imagenet_val_50000", 7500),), "adversarial": (("imagenet_a", 7500),)},
    },
    "04_scoreboard": {name: {} for name in RUNS},
    # `share` of the crop is taken as the object, as in the judged claims of notebook 03.
    "05_your_own_photograph": {name: {"classifier": "efficientnet_lite0", "share": 0.35} for name in RUNS},
}
