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
# those of the other losses, of the variants and of a mixture of kinds of maps to train on. The network of the
# paper's size trains `exact_epochs` with the same recipe. `watched` are the starts, optimisers and learning
# rates whose first `plateau_steps` steps are followed in the run's own network; where that is a small one,
# the exact network takes `exact_steps` from the paper's start.
_WATCHED = (("paper", "sgd", 0.03), ("he", "adamw", 0.0005), ("mean map", "adamw", 0.0005))
_SHALLOW = {
    "recipe": "stopped in time",
    "changes": {},
    "losses": ("mse", "l1"),
    "other_losses": ("kl", "bhattacharyya", "bce"),
    "seeds": 10,
    "few_seeds": 6,
    "run_on": 6,
    "exact_epochs": 12,
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

# Paper 3. `classifiers` are asked with so many photographs each (None: all); the first one judges. `natural`
# names the sets whose photographs are blurred, `boxed` one with official boxes (None: digits with exact
# masks, asked of a small network). `adversarial` is a set, or "cross-fitted": of `boxed`, those that the same
# classifier gets wrong on another crop. `shown` may be shown: examples (`pictures` names those of each
# figure), pairs and random weights are made with its photographs. `people` and `objects` (whose class the
# classifiers may not know) name sets with our boxes. `slow` photographs are for what takes long: Integrated
# Gradients, SmoothGrad, every switch, all methods explaining the probability; `grid` are those with every
# rule and area. `sanity` names the methods whose maps are watched under random weights, at so many `stages`,
# by classifier. `vgg` is how a small network of VGG's kind is trained on small photographs (None: not).
_ALL_METHODS = ("LICNN", "LICNN, released code, bilinear", "Edge detector", "Gradient", "Gradient x Input")
_ALL_METHODS += ("Integrated Gradients", "SmoothGrad", "Guided Backprop", "Grad-CAM", "Guided Grad-CAM")
_FEW_METHODS = ("LICNN", "Gradient", "Grad-CAM", "Guided Backprop", "Edge detector")
_PICTURES_QUICK = {
    "steps": ("motorcycle_left",),
    "figure_4": ("chelsea", "coffee", "rocket", "camera", "astronaut", "motorcycle_left"),
    "figure_5": ("coffee", "camera", "chelsea", "rocket"),
    "figure_9": ("chelsea", "coffee", "motorcycle_left"),
    "figure_11": ("chelsea",),
    "figure_13": ("rocket",),
    "figure_22": ("coffee",),
    "methods": ("camera", "chelsea", "rocket"),
}
_PICTURES_MINI = {
    "steps": ("446b24f903b488fc",),  # an oystercatcher
    "figure_4": (
        *("38bdd950c1d08be6", "59204d6bb0c234eb", "5c8bcfa0dbb246ab"),  # egret, balloon, sports car
        *("5528f7330399485f", "0411ca972e637297", "0d85e0103989c850"),  # spider, espresso, monarch
    ),
    "figure_5": (
        *("60ed157b21d49c4c", "5ec826683757ffae", "5adb3d985cf217a9"),  # radio, bald eagle, airliner
        *("5d6c4759c26bae8c", "517dc655edeaf344", "1ba816dc6937b62d"),  # guitars, baseball, toaster
    ),
    "figure_9": (
        *("16ff75228179469c", "4fc263d35a3ad3ee", "5d53f9bc389e98ad"),  # kelpie, bull mastiff, Cardigan
        *("abd121ef53a69ef8", "56dbd7d814ef5c58", "d25df1a8259d3fdf"),  # Bernese, basenji, Afghan hound
    ),
    "figure_11": ("16179baa1513c701",),  # a hummingbird
    "figure_13": ("1733cbc68a2ae05d",),  # a fire engine
    "figure_22": ("44982b98ba192bb7",),  # an admiral (butterfly)
    "methods": ("080bec22a6b1d37d", "4cccb215bd60b3c3", "212476b1b58a0cfe"),  # camera, frog, convertible
}
_LICNN = {
    "classifiers": {"efficientnet_lite0": None},
    "natural": ("photographs", "imagenet_samples"),
    "boxed": None,
    "adversarial": None,
    "shown": "photographs",
    "examples": 8,
    "pictures": _PICTURES_QUICK,
    "people": ("photographs",),
    "objects": (),
    "slow": 100,
    "grid": 300,
    "pairs": 100,
    "terms": 150,
    "sanity": {"efficientnet_lite0": _FEW_METHODS},
    "sanity_images": 24,
    "stages": 10,
    "seeds": 2,
    "batch": 8,
    "digits": {
        "networks": ("alexnet", "vgg"),
        "train": 2000,
        "test": 200,
        "epochs": 12,
        "shrink": 2,
        "seeds": 6,
    },
    "vgg": None,
}
_LICNN_QUICK = {
    "sanity_images": 2,
    "stages": 5,
    "seeds": 1,
    "slow": 4,
    "grid": 4,
    "pairs": 4,
    "terms": 8,
    "digits": {
        "networks": ("alexnet",),
        "train": 600,
        "test": 40,
        "epochs": 8,
        "shrink": 3,
        "seeds": 1,
    },
}
_LICNN_MINI = {
    "classifiers": {"squeezenet1_1": None, "efficientnet_lite0": 600, "efficientnet_lite1": 300},
    "natural": ("imagenet_val",),
    "boxed": "imagenet_val",
    "adversarial": "cross-fitted",
    "shown": "nips2017_dev",
    "examples": 200,
    "pictures": _PICTURES_MINI,
    "people": ("photographs", "nips2017_dev", "osie"),
    "objects": ("nips2017_dev", "osie"),
    "sanity": {"squeezenet1_1": _ALL_METHODS, "efficientnet_lite0": _FEW_METHODS},
    "vgg": {"data": "tinyimagenet10", "recipe": {"epochs": 15}},
}
_LICNN_MINI_FULL = {
    "classifiers": {"squeezenet1_1": None, "efficientnet_lite0": None, "efficientnet_lite1": None},
}
_LICNN_FULL = {"seeds": 5, "batch": 64}
_LICNN_PAPER = _LICNN_MINI | {
    "classifiers": {"vgg16": 600},
    "natural": ("imagenet_val_50000",),
    "adversarial": "imagenet_a",
    "sanity": {"vgg16": _ALL_METHODS},
}

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
        "paper-short": _LICNN | _LICNN_PAPER,
        "paper-full": _LICNN | _LICNN_PAPER | _LICNN_FULL | {"classifiers": {"vgg16": 7500}},
    },
    "04_scoreboard": {name: {} for name in RUNS},
    "05_your_own_photograph": {name: {"classifiers": ("efficientnet_lite0",)} for name in RUNS},
}
