"""Notebook 03 with the profile ``paper``, on a stand-in for the official data: the same layout, a handful of
drawn photographs, and VGG-16's layers with few channels and random weights."""

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from saliencylib import claims, plan, profiles

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")

WNIDS = ("n01440764", "n02123045", "n07920052")
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


@pytest.fixture
def official_layout(tmp_path, monkeypatch):
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for folder, suffix in (("imagenet_val", "JPEG"), ("imagenet-a", "jpg")):
        for number, wnid in enumerate(WNIDS):
            path = root / folder / wnid / f"{folder}_{number}.{suffix}"
            path.parent.mkdir(parents=True)
            coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC).save(path)
    torch.manual_seed(0)
    (root / "weights").mkdir()
    torch.save(thin_vgg16("vgg16").state_dict(), root / "weights" / "vgg16.pth")
    monkeypatch.setattr(torchvision.models, "get_model", thin_vgg16)
    monkeypatch.setenv("SALIENCY_DATA", str(root))
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path / "results"))
    return tmp_path


def test_paper_profile_runs_on_the_official_layout(official_layout, monkeypatch):
    settings = profiles.SETTINGS["03_licnn"]
    monkeypatch.setitem(settings, "paper-short", settings["paper-short"] | SMALL)
    notebook = nbformat.read(plan.ROOT / "notebooks" / "03_licnn.ipynb", as_version=4)
    namespace: dict = {}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"cell {number}", "exec"), namespace)
            if "parameters" in cell.metadata.get("tags", []):
                namespace |= {"profile": "paper", "schedule": "short", "device": "cpu"}
    tables = official_layout / "results" / "paper-short" / "tables"
    measured = pd.read_csv(tables / "03_claims.csv").set_index("id")
    expected = claims.table().query("paper == 'LICNN'")["id"]
    assert set(measured.index) == set(expected) and measured["reason"].isna().all()
    blurred = measured.loc[["LI-F15a", "LI-F15o", "LI-F15b", "LI-F16", "LI-X6"]]
    assert (blurred["source"] == "paper").all() and (blurred["n"] == 3).all()
    assert measured.loc["LI-F15b", "data"] == "ImageNet-A (imagenet_a), vgg16"
    rows = pd.read_csv(tables / "03_figure_15_adversarial.csv", keep_default_na=False)
    assert set(rows.query("source == 'LICNN' and radius == 2")["rule"]) == {"printed rule"}
    assert namespace["model"](torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
