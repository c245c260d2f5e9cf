"""What users hand in by mistake is refused in a sentence that says what was given and what is wanted.

A row is one member of a kind; the checks behind them, in ``saliencylib.inputs``, are those of every function.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from saliencylib import figures, inputs, metrics, saliency, stats
from saliencylib.data.images import downscaled
from saliencylib.data.registry import DataInvalid, DataNotFound
from saliencylib.digits import cluttered_digits
from saliencylib.licnn import background, blur, localisation, sanity
from saliencylib.licnn.attribution import attribute
from saliencylib.licnn.classifiers import Preprocess, as_classifier
from saliencylib.licnn.method import LICNN, inhibited, lateral_inhibition
from saliencylib.photograph import reading
from saliencylib.sal_mask import masks
from saliencylib.sal_mask.network import SalMask, alexnet, layer_table, nin, vgg
from saliencylib.shallow_cnn.gaze import gaze_split
from saliencylib.shallow_cnn.network import shallow_saliency_cnn
from saliencylib.shallow_cnn.shipped import predicted_gaze
from saliencylib.study import start

MAP = np.random.default_rng(0).random((20, 24))
PIXELS = np.uint8(255 * np.random.default_rng(1).random((20, 24, 3)))
PICTURE = Image.fromarray(PIXELS)
LOOKED = [1, 2, 3], [4, 5, 6]
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
META = torch.empty(2, 3, 16, 16, device="meta")
MAPS = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
OBJECT = MAP > 0.5


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, 5)).eval()


def masked() -> SalMask:
    return SalMask(network()[:2], network()[2:]).eval()


def tied(weight: float) -> nn.Module:
    made = network()
    nn.init.constant_(made[0].weight, weight)
    return made


# ------------------------------------------------------------------------------------------- refused

COUNTS = {
    "splits": lambda n: metrics.auc_borji(MAP, *LOOKED, splits=n),
    "splits of a continuous area": lambda n: metrics.auc_borji(MAP, *LOOKED, splits=n, step=None),
    "others": lambda n: metrics.score([MAP] * 2, [LOOKED] * 2, others=n),
    "min_region": lambda n: saliency.region_contrast(PIXELS, n),
    "border": lambda n: saliency.alpha_matte(PIXELS, border=n),
    "batch_size": lambda n: LICNN(network(), batch_size=n),
    "batch_size of a method": lambda n: attribute("Gradient", network(), IMAGES, 0, batch_size=n),
    "steps": lambda n: attribute("Integrated Gradients", network(), IMAGES, 0, steps=n),
    "samples": lambda n: attribute("SmoothGrad", network(), IMAGES, 0, samples=n),
    "top": lambda n: LICNN(network()).saliency_maps(IMAGES, n),
    "k": lambda n: lateral_inhibition(MAPS, n),
    "k of LICNN": lambda n: LICNN(network(), k=n),
    "side": lambda n: Preprocess(n, 1),
    "crop": lambda n: Preprocess(32, n),
    "count": lambda n: cluttered_digits(n),
    "per_class": lambda n: masks.labelled_images("cluttered digits", "train", n),
    "shrink": lambda n: masks.block_means(PIXELS[None], n),
    "train_images": lambda n: gaze_split("quick", n, 5),
    "hidden": lambda n: shallow_saliency_cnn(hidden=n),
    "classes": lambda n: alexnet(n),
    "size": lambda n: layer_table(network(), n),
    "height": lambda n: downscaled(PIXELS[None], n, 4),
    "resamples": lambda n: stats.bootstrap_interval([1, 2, 3], resamples=n),
    "H, W": lambda n: metrics.fixation_density(*LOOKED, (20, n), 1),
    "H, W of a Gaussian": lambda n: saliency.centre_gaussian((20, n), 1),
}


@pytest.mark.parametrize("number", [0, -1, 2.5, "3", True, np.nan], ids=str)
@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_whole_numbers_above_zero(name, number):
    with pytest.raises(ValueError, match=f"{name.partition(' of ')[0]}.* must be a whole number of at least"):
        COUNTS[name](number)


SEEDS = {
    "seed of digits": lambda n: cluttered_digits(2, n),
    "seed of a start": lambda n: shallow_saliency_cnn(hidden=2, width=0.1, seed=n),
    "seed of a method": lambda n: attribute("SmoothGrad", network(), IMAGES, 0, seed=n),
    "seed of random weights": lambda n: sanity.randomized(network(), seed=n),
    "seed of a bootstrap": lambda n: stats.bootstrap_interval([1, 2, 3], seed=n),
    "rng": lambda n: metrics.auc_borji(MAP, *LOOKED, rng=n),
    "rng of a score": lambda n: metrics.score([MAP], [LOOKED], rng=n),
    "first_seed": lambda n: start("01_sal_mask", "quick", device="cpu", first_seed=n),
}


@pytest.mark.parametrize("number", [-1, 1.5, "3", True], ids=str)
@pytest.mark.parametrize("name", SEEDS)
def test_seeds_are_whole_numbers_from_zero(name, number):
    with pytest.raises(
        ValueError, match=f"{name.partition(' of ')[0]}.* must be a whole number of at least 0"
    ):
        SEEDS[name](number)


NUMBERS = {
    "step": lambda x: metrics.auc_borji(MAP, *LOOKED, step=x),
    "sigma": lambda x: metrics.fixation_density(*LOOKED, MAP.shape, x),
    "sigma of one axis": lambda x: metrics.fixation_density(*LOOKED, MAP.shape, (1, x)),
    "sigma of a score": lambda x: metrics.score([MAP], [LOOKED], sigma=x),
    "sigma of a Gaussian": lambda x: saliency.centre_gaussian((4, 4), x),
    "seed_share": lambda x: saliency.alpha_matte(PIXELS, x),
    "opacity": lambda x: figures.show(MAP, PIXELS, opacity=x),
    "noise": lambda x: attribute("SmoothGrad", network(), IMAGES, 0, noise=x),
    "width": lambda x: shallow_saliency_cnn(hidden=2, width=x),
    "width of AlexNet": lambda x: alexnet(width=x),
    "width of NIN": lambda x: nin(width=x),
    "width of VGG": lambda x: vgg(width=x),
    "radius": lambda x: blur.blurred(PICTURE, OBJECT, x),
    "sd": lambda x: stats.power(x, 5, 1),
}
UNBOUNDED = {
    "a": lambda x: lateral_inhibition(MAPS, a=x),
    "b": lambda x: inhibited(MAPS, b=x),
    "b of LICNN": lambda x: LICNN(network(), b=x),
}


@pytest.mark.parametrize("number", [np.nan, np.inf, "1"], ids=str)
@pytest.mark.parametrize("name", NUMBERS | UNBOUNDED)
def test_numbers_are_finite(name, number):
    with pytest.raises(ValueError, match=f"{name.partition(' of ')[0]} must be a finite number"):
        (NUMBERS | UNBOUNDED)[name](number)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_below_zero_are_refused(name):
    with pytest.raises(ValueError, match=f"{name.partition(' of ')[0]} must be a finite number.*, not -1"):
        NUMBERS[name](-1)


def test_a_step_that_would_fill_the_memory_is_refused():
    with pytest.raises(ValueError, match="step must be a finite number of at least 1e-06"):
        metrics.auc_borji(MAP, *LOOKED, step=1e-12)
    with pytest.raises(ValueError, match=r"sigma must be .* at most 1e\+06"):
        metrics.fixation_density(*LOOKED, MAP.shape, 1e12)


VALUES = {
    "map": lambda x: metrics.cc(x, x),
    "truth": lambda x: metrics.score([MAP], None, [x]),
    "fixations": lambda x: metrics.nss(MAP, x, x),
    "others": lambda x: metrics.auc_shuffled(MAP, *LOOKED, [(x, x)]),
    "image": saliency.region_contrast,
    "images": lambda x: saliency.map_stack([x], "sr"),
    "shown map": lambda x: figures.show(x, PIXELS),
    "shown photograph": lambda x: figures.show(MAP, x),
    "region": blur.object_region,
    "mask": lambda x: blur.blurred(PICTURE, x, 2),
    "pasted": lambda x: background.pasted(PICTURE, x, PICTURE),
    "scored": lambda x: localisation.object_scores(x, OBJECT[None]),
    "objects": lambda x: localisation.energy_inside(MAP[None], x),
    "similar": lambda x: sanity.spearman_similarity(x, x),
    "similar by HOG": lambda x: sanity.hog_similarity(x, x),
    "classes alike": sanity.class_similarity,
    "mean": stats.mean_interval,
    "pairs": lambda x: stats.paired_difference(x, x),
    "right": lambda x: stats.mcnemar(x, x),
    "p values": stats.holm,
    "saliency": lambda x: masked()(IMAGES, x),
    "class": lambda x: LICNN(network()).attribute(IMAGES, x),
    "class of a gradient": lambda x: attribute("Gradient", network(), IMAGES, x),
    "classes": lambda x: LICNN(network()).gradient_based_maps(IMAGES, x),
    "downscaled": lambda x: downscaled(x, 4, 4),
}
WITHOUT_VALUES = {
    "on no device": (META, 'device "meta" holds no values'),
    "text": ("holiday.jpg", r"not 'holiday\.jpg': PIL\.Image\.open"),
    "an object": (object(), "cannot be read as one array of real numbers"),
    "ragged": ([[1, 2], [3]], "cannot be read as one array of real numbers"),
    "complex": (np.ones((20, 24), complex), "real numbers, not an array of complex128"),
    "masked": (np.ma.masked_greater(MAP, 0.5), "masked array"),
}


@pytest.mark.parametrize("form", WITHOUT_VALUES)
@pytest.mark.parametrize("name", VALUES)
def test_what_is_no_array_of_numbers_is_refused(name, form):
    value, message = WITHOUT_VALUES[form]
    with pytest.raises(ValueError, match=message):
        VALUES[name](value)


@pytest.mark.parametrize("form", ["sparse", "bfloat16", "float8", "big-endian", "turned"])
def test_tensors_and_arrays_of_every_storage_are_read(form):
    plain = torch.rand(5, 6, generator=torch.Generator().manual_seed(0)).to(torch.float8_e4m3fn).float()
    stored = {
        "sparse": plain.to_sparse(),
        "bfloat16": plain.bfloat16(),
        "float8": plain.to(torch.float8_e4m3fn),
        "big-endian": plain.numpy().astype(">f8"),
        "turned": plain.numpy()[::-1].copy()[::-1],
    }[form]
    assert np.array_equal(inputs.as_array(stored), plain)
    if form != "float8":
        assert torch.equal(inputs.as_tensor(stored).float(), plain)


NETWORKS = {
    "LICNN": LICNN,
    "attribute": lambda net: attribute("Gradient", net, IMAGES, 0),
    "edges": lambda net: attribute("Edge detector", net, IMAGES, 0),
    "as_classifier": lambda net: as_classifier(net, Preprocess(16, 16)),
    "randomized": sanity.randomized,
    "layer_table": layer_table,
    "predicted_gaze": lambda net: predicted_gaze(net, PICTURE),
}


@pytest.mark.parametrize("ask", NETWORKS.values(), ids=NETWORKS)
def test_what_is_no_network_or_has_no_weights_is_refused(ask):
    for wrong in (None, "vgg16", nn.ReLU, lambda images: images):
        with pytest.raises(ValueError, match=r"need a network, an instance of torch\.nn\.Module"):
            ask(wrong)
    half = network()
    half[4] = half[4].to("meta")
    for wrong in (network().to("meta"), half):
        with pytest.raises(ValueError, match='weights of the network lie on the device "meta"'):
            ask(wrong)


@pytest.mark.parametrize("method", ["LICNN", "Gradient", "Grad-CAM"])
@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_a_network_that_answers_nan_is_told(method, weight):
    with pytest.raises(ValueError, match="answers to finite images with NaN"):
        attribute(method, tied(weight), IMAGES, 0)


REFUSED = {
    "images without values": (lambda: LICNN(network()).attribute(META, 0), "holds no values"),
    "images of int8": (
        lambda: LICNN(network()).attribute(IMAGES.to(torch.int8), 0),
        "not torch.int8",
    ),
    "images of float8": (lambda: LICNN(network()).attribute(IMAGES.to(torch.float8_e4m3fn), 0), "float8"),
    "no class": (lambda: LICNN(network()).attribute(IMAGES, None), "one class index"),
    "a class's name": (lambda: attribute("Gradient", network(), IMAGES, "cat"), "one class index.*'cat'"),
    "classes as shares": (lambda: LICNN(network()).attention_maps(IMAGES, MAPS[:, 0, :2]), "whole numbers"),
    "no classes": (
        lambda: LICNN(network()).attention_maps(IMAGES, np.zeros((2, 0), int)),
        "K of them",
    ),
    "classes of other images": (lambda: LICNN(network()).steps(IMAGES, [0, 1, 2]), "each of 2 images"),
    "a share as class": (lambda: LICNN(network()).steps(IMAGES, 0.5), "whole numbers, not torch.float64"),
    "a preset's list": (lambda: LICNN(network(), ["text"]), "unknown preset"),
    "a word": (
        lambda: LICNN(network(), mask_last="no"),
        "mask_last must be True or False",
    ),
    "whole numbers to inhibit": (lambda: lateral_inhibition(MAPS.long()), "floating point, not torch.int64"),
    "an array to inhibit": (lambda: inhibited(MAPS.numpy()), "a tensor of floating point, not ndarray"),
    "maps without pixels": (lambda: lateral_inhibition(MAPS[:, :0]), r"shape \(2, 0, 16\)"),
    "NaN to inhibit": (lambda: inhibited(MAPS * np.nan), "NaN or infinity"),
    "a mask of three values": (lambda: blur.blurred(PICTURE, 2 * OBJECT, 2), "True and False"),
    "a map as a mask": (lambda: localisation.inside_minus_outside(MAP[None], MAP[None]), "True and False"),
    "negative maps": (lambda: localisation.energy_inside(-MAP[None], OBJECT[None]), "negative values"),
    "NaN in maps": (lambda: localisation.energy_inside(np.nan * MAP[None], OBJECT[None]), "NaN"),
    "NaN in a region": (lambda: blur.object_region(np.nan * MAP), "NaN"),
    "NaN alike": (lambda: sanity.spearman_similarity(np.nan * MAP, MAP), "NaN"),
    "one class alike": (lambda: sanity.class_similarity(MAPS[None][:, :1]), "at least two classes"),
    "a pixel's HOG": (lambda: sanity.hog_similarity(MAP[:1], MAP[:1]), "two pixels a side"),
    "an array as a picture": (lambda: localisation.baseline_map("RC", "holiday.jpg"), "PIL.Image.open"),
    "infinite values": (lambda: stats.mean_interval([1, 2, np.inf]), "1 of 3 values are NaN or infinite"),
    "values that are not right or wrong": (lambda: stats.mcnemar([0.5, 1], [1, 0]), "True and False"),
    "p values above 1": (lambda: stats.holm([0.5, 2]), "from 0 to 1"),
    "unequal pairs": (
        lambda: stats.rank_correlation([1, 2, 3, 4], [1, 2, 3], "images"),
        "4 and 3",
    ),
    "no list of maps": (lambda: metrics.score(None, [LOOKED]), "maps must be a list or an array"),
    "truths in turn": (
        lambda: metrics.score([MAP], None, iter([MAP])),
        "truths must be a list or an array",
    ),
    "no fixations of an image": (lambda: metrics.score([MAP], [None]), "fixations are a NoneType"),
    "fixations by name": (lambda: metrics.score([MAP], [{"x": [1], "y": [1]}]), "fixations are a dict"),
    "others of one image": (lambda: metrics.auc_shuffled(MAP, *LOOKED, LOOKED), r"one \(x, y\) an image"),
    "no others": (lambda: metrics.auc_shuffled(MAP, *LOOKED, None), r"one \(x, y\) an image"),
    "a map's side as its shape": (lambda: metrics.fixation_density(*LOOKED, 20, 1), r"\(H, W\).*, not 20"),
    "one path": (lambda: saliency.map_stack(Image.new("RGB", (4, 4)), "sr"), "a list, not a Image"),
    "methods": (lambda: saliency.map_stack([PIXELS], ["sr"]), "method must be one of"),
    "unknown data": (
        lambda: masks.labelled_images("imagenet", "train", 1),
        "unknown data set",
    ),
    "an unknown profile": (lambda: gaze_split("full", 5, 5), "unknown profile 'full'"),
    "parts that are none": (lambda: SalMask(None, network()), "two nn.Modules"),
    "a grey image to mask": (
        lambda: masked()(IMAGES[:, :1], MAPS),
        "first layer fails.*takes 3 channels",
    ),
    "a rest without its Flatten": (
        lambda: SalMask(network()[:2], nn.Linear(64, 5)).eval()(IMAGES, MAPS),
        "is its Flatten a module of it.*feature maps of shape",
    ),
    "images of another size": (
        lambda: shallow_saliency_cnn(hidden=2, width=0.1).eval()(IMAGES),
        r"\(N, 3, 96, 96\) in \[0, 1\], not shape \(2, 3, 16, 16\)",
    ),
    "a deviation of zero": (lambda: Preprocess(std=(0, 0, 0)), "each std must be a finite number above 0"),
    "a mean of 0 to 255": (lambda: Preprocess(mean=(123.7, 116.3, 103.5)), "each mean must be .* at most 1"),
    "a deviation too few": (lambda: Preprocess(std=(0.2,)), "std must be a tuple"),
    "a mean without channels": (lambda: Preprocess(mean=0.5), "mean must be a tuple"),
    "a place outside": (lambda: Preprocess(place=(0, 2)), "each place must be"),
    "boxes in pixels": (lambda: Preprocess().box_mask([[0, 0, 20, 20]], 40, 40), "divide those in pixels"),
    "NaN in boxes": (lambda: Preprocess().box_mask([[0, 0, np.nan, 1]], 40, 40), r"in \[0, 1\]"),
    "no pictures": (lambda: Preprocess().inputs([]), "of 0 sizes"),
    "a picture alone": (lambda: Preprocess().inputs(PICTURE), r"a single one is \[picture\]"),
    "pictures of two sizes": (lambda: Preprocess().inputs([PICTURE, PICTURE.resize((9, 9))]), "of 2 sizes"),
    "pictures of another kind": (lambda: Preprocess().inputs([PICTURE.convert("P")]), "of kind P"),
    "paths": (lambda: Preprocess().inputs(["holiday.jpg"]), "of kind str"),
    "a function that prepares": (lambda: as_classifier(network(), lambda x: x), "or None, not a function"),
    "a device without values": (lambda: start("01_sal_mask", "quick", device="meta"), "device 'meta'"),
    "no device": (lambda: start("01_sal_mask", "quick", device=None), "device None"),
    "profiles": (lambda: start("01_sal_mask", ["quick"]), "unknown profile"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_other_mistakes_are_named(wrong):
    call, message = REFUSED[wrong]
    with pytest.raises(ValueError, match=message):
        call()


# ------------------------------------------------------------------------------------------- pictures


def test_masks_of_0_and_1_are_those_of_true_and_false():
    for ask in (localisation.object_scores, localisation.energy_inside, localisation.inside_minus_outside):
        for same in (OBJECT.astype(int), OBJECT.astype(np.float32), torch.from_numpy(OBJECT)):
            assert np.array_equal(
                np.asarray(ask(MAP[None], same[None])), np.asarray(ask(MAP[None], OBJECT[None]))
            )
    for where in blur.SIDES:
        found = blur.blurred(PICTURE, OBJECT.astype(int), 2, where)
        assert np.array_equal(found, blur.blurred(PICTURE, OBJECT, 2, where))


@pytest.fixture(params=["absent", "folder", "empty", "text", "cut", "bomb"])
def bad_file(request, tmp_path, monkeypatch):
    path = tmp_path / "holiday.png"
    match request.param:
        case "folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "text":
            path.write_text("no picture")
        case "cut" | "bomb":
            PICTURE.save(path)
    if request.param == "cut":
        path.write_bytes(path.read_bytes()[:900])
    if request.param == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    return path


def test_a_bad_file_is_named_by_every_reader(bad_file):
    for read in (Preprocess(16, 16).cut, Preprocess(16, 16), reading.folder_name):
        for given in (bad_file, str(bad_file)):
            with pytest.raises(DataNotFound, match="holiday.png"):
                read(given)


@pytest.mark.parametrize(
    "source", [None, 3, b"a.png", ["a.png"], "a\0b", "a" * 5000], ids=lambda s: str(s)[:9]
)
def test_what_is_no_path_is_refused(source):
    with pytest.raises(DataNotFound, match="path of a"):
        reading.folder_name(source)


def test_a_picture_that_was_opened_and_is_cut_names_its_file(tmp_path):
    PICTURE.save(tmp_path / "holiday.png")
    (tmp_path / "holiday.png").write_bytes((tmp_path / "holiday.png").read_bytes()[:900])
    for read in (Preprocess(16, 16).cut, saliency.region_contrast, lambda x: figures.show(MAP, x)):
        with (
            Image.open(tmp_path / "holiday.png") as opened,
            pytest.raises(ValueError, match=r"holiday\.png cannot be read to its end"),
        ):
            read(opened)


def test_pictures_of_more_than_8_bits_are_not_clipped():
    preprocess, deep = Preprocess(16, 16), PIXELS[..., 0].astype(np.uint16) * 257
    with pytest.raises(ValueError, match="got uint16"):
        preprocess.cut(Image.fromarray(deep))
    shares = np.float32(deep / 65535)
    assert np.array_equal(preprocess.cut(Image.fromarray(shares)), preprocess.cut(PIXELS[..., 0]))


def test_a_file_that_cannot_be_read_is_invalid_and_one_that_is_not_there_is_absent(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataInvalid, match="text.png is not an image"):
        Preprocess().cut(tmp_path / "text.png")
    with pytest.raises(DataNotFound, match=r"none\.png is missing"):
        Preprocess().cut(tmp_path / "none.png")
