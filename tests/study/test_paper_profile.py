"""Notebook 03 with the profile ``paper``, on a stand-in for the official data: the same layout, a handful of
drawn photographs, and VGG-16's layers with few channels and random weights."""

import copy
import dataclasses

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from timm.data import ImageNetInfo
from torch import nn

from saliencylib.data import photosets
from saliencylib.licnn import blur, classifiers
from saliencylib.places import ROOT
from saliencylib.study import claims
from saliencylib.study.settings import SETTINGS

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")

SMALL = {
    "examples": 3,
    "shown_count": 2,
    "composites": 3,
    "sanity_images": 2,
    "seeds": 1,
    "methods": ("LICNN", "Gradient"),
    "digits": {"train": 40, "test": 20, "epochs": 1, "shrink": 4},
}


def thin_vgg16(name: str) -> nn.Module:
    assert name == "vgg16"
    layers = [8, 8, "M", 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M"]
    network = torchvision.models.VGG(torchvision.models.vgg.make_layers(layers), init_weights=False)
    network.classifier = nn.Sequential(nn.Linear(8 * 7 * 7, 32), nn.ReLU(True), nn.Linear(32, 1000))
    return network


def drawn(rng: np.random.Generator) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((400, 300), Image.Resampling.BICUBIC)


@pytest.fixture
def official_layout(tmp_path, monkeypatch):
    """The data root; whatever class the random network sees in a photograph is the right one."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    torch.manual_seed(0)
    network = thin_vgg16("vgg16")
    pictures, own = [drawn(rng) for _ in range(6)], photosets.photographs()
    model = classifiers.as_classifier(copy.deepcopy(network))
    crops = [model.preprocess.cut(p) for p in (*pictures, *(own.image(i) for i in range(len(own))))]
    with torch.no_grad():
        logits = model(torch.stack([model.preprocess.normalise(crop) for crop in crops]))
        for random in (network, model):  # without the mean, so that classes differ
            random.classifier[-1].bias -= logits.mean(0)
    first = blur.top_classes(model, crops)[:, 0].tolist()
    (root / "weights").mkdir(parents=True)
    torch.save(network.state_dict(), root / "weights" / "vgg16.pth")
    for number, (picture, index) in enumerate(zip(pictures, first, strict=False)):
        name = ("imagenet_val_50000", "JPEG") if number < 3 else ("imagenet-a", "jpg")
        path = root / name[0] / ImageNetInfo().label_names()[index] / f"{name[0]}_{number}.{name[1]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    known = dataclasses.replace(own, accepted=[(index,) for index in first[len(pictures) :]])
    monkeypatch.setattr(photosets, "photographs", lambda: known)
    monkeypatch.setattr(torchvision.models, "get_model", thin_vgg16)
    monkeypatch.setenv("SALIENCY_DATA", str(root))
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path / "results"))
    return tmp_path


def test_paper_profile_runs_on_the_official_layout(official_layout, monkeypatch):
    settings = SETTINGS["03_licnn"]
    monkeypatch.setitem(settings, "paper-short", settings["paper-short"] | SMALL)
    notebook = nbformat.read(ROOT / "notebooks" / "03_licnn.ipynb", as_version=4)
    namespace: dict = {}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"cell {number}", "exec"), namespace)
            if "parameters" in cell.metadata.get("tags", []):
                namespace |= {"profile": "paper", "schedule": "short", "device": "cpu"}
    tables = official_layout / "results" / "paper-short" / "tables"
    measured = pd.read_csv(tables / "03_claims.csv").set_index("id")
    expected = claims.table().query("paper == 'LICNN'")["id"]
    assert set(measured.index) == set(expected)
    assert set(measured["reason"].dropna()) == {"being redone"}
    blurred = measured.loc[["LI-F15a", "LI-F15o", "LI-F15b", "LI-F16"]]
    assert (blurred["source"] == "paper").all() and (blurred["n"] == 3).all()
    assert measured.loc["LI-F15b", "data"] == "ImageNet-A (imagenet_a), vgg16"
    rows = pd.read_csv(tables / "03_figure_15_adversarial.csv", keep_default_na=False)
    assert set(rows.query("source == 'LICNN' and radius == 2")["rule"]) == {"printed rule"}
    assert namespace["model"](torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
