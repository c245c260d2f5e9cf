"""What notebook 05 measures on one photograph: maps, classes, and what blur does to them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import center_crop, resize

from saliencylib import saliency
from saliencylib.licnn.blur import RADII, SIDES, blurred, class_logits, object_region
from saliencylib.licnn.classifiers import Preprocess
from saliencylib.licnn.localisation import BASELINES, baseline_map
from saliencylib.licnn.sanity import spearman_similarity
from saliencylib.photograph.reading import Photograph


def bottom_up_maps(photo: Photograph) -> dict[str, np.ndarray]:
    """Every map of ``saliency.METHODS`` by its name: (H, W) float32 in [0, 1], of ``photo.pixels``."""
    names = {name: name.capitalize() if name == "alpha" else name.upper() for name in saliency.METHODS}
    return {names[name]: of(photo.pixels) for name, of in saliency.METHODS.items()}


def map_on_crop(values: np.ndarray, picture: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """The part of a map (h, w) of the whole picture that the classifier's crop shows: (crop, crop)."""
    whole = Image.fromarray(values.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    tensor = torch.from_numpy(np.asarray(whole).copy())[None, None]
    return center_crop(resize(tensor, preprocess.side, antialias=True), preprocess.crop)[0, 0].numpy()


def rank_correlations(maps: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Spearman's rank correlation of every two maps of one shape, (n, n) with the maps' names; 0 where one of
    them is constant."""
    values = [[spearman_similarity(a, b, absolute=False) for b in maps.values()] for a in maps.values()]
    return pd.DataFrame(values, index=list(maps), columns=list(maps))


def likeliest_classes(
    model: nn.Module, crops: Sequence[Image.Image], top: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """The ``top`` likeliest classes of crops, best first, int64 (N, top), and all probabilities (N, 1000)."""
    found = class_logits(model, crops).softmax(1)
    return found.topk(top).indices.numpy(), found.numpy()


def class_table(model: nn.Module, crops: Mapping[str, Image.Image]) -> pd.DataFrame:
    """The five likeliest classes of crops with their probabilities, as text: a column a crop, by name."""
    top, probabilities = likeliest_classes(model, list(crops.values()))
    columns = {
        name: [f"{model.classes[index]} {row[index]:.1%}" for index in best]
        for name, best, row in zip(crops, top, probabilities, strict=True)
    }
    return pd.DataFrame(columns)


def blurred_crops(crop: Image.Image, region: np.ndarray) -> dict[str, Image.Image]:
    """The crop as it is, and with background and object blurred at the largest radius of the experiment."""
    soft = {f"{where} blurred": blurred(crop, region, max(RADII), where) for where in SIDES}
    return {"as it is": crop} | soft


def blur_effects(model: nn.Module, crop: Image.Image, saliency_map: np.ndarray) -> pd.DataFrame:
    """What blur does to the likeliest class: a row for the crop as it is, and two (background and object)
    for the region of LICNN's map by the released rule, and for as large ones of maps that ask no classifier.

    Columns: region (whose map; "" for none), picture, first (the likeliest class), probability (of it) and
    before (the probability of the class that was likeliest without blur).
    """
    regions = {"LICNN": object_region(saliency_map)}
    share = float(regions["LICNN"].mean())
    regions |= {kind: object_region(baseline_map(kind, crop), share) for kind in BASELINES}
    pictures = {("", "as it is"): crop}
    for kind, region in regions.items():
        _, *soft = blurred_crops(crop, region).items()
        pictures |= {(kind, name): picture for name, picture in soft}
    top, probabilities = likeliest_classes(model, list(pictures.values()), 1)
    frame = pd.DataFrame(list(pictures), columns=["region", "picture"])
    return frame.assign(
        first=[model.classes[index] for index in top[:, 0]],
        probability=probabilities.max(1),
        before=probabilities[:, top[0, 0]],
    )
