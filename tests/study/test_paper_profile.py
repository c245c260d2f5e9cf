"""Notebook 03 with the profile ``paper``, on a stand-in for the official data: the same layout, a handful of
drawn photographs, and VGG-16's layers with few channels and random weights."""

import copy
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from timm.data import ImageNetInfo
from torch import nn

from saliencylib.licnn import blur, classifiers, results
from saliencylib.places import ROOT
from saliencylib.study import claims
from saliencylib.study.settings import SETTINGS

pytestmark = pytest.mark.usefixtures("in_process", "own_cache")

SMALL = {
    "classifiers": {"vgg16": None},
    "examples": None,
    "pictures": {
        **dict.fromkeys(("steps", "figure_11", "figure_13", "figure_22"), ("0000000000000000",)),
        **dict.fromkeys(("figure_4", "figure_5", "figure_9", "methods"), ("0000000000000001",)),
    },
    "people": ("nips2017_dev",),
    "objects": ("nips2017_dev",),
    "slow": 2,
    "grid": 3,
    "pairs": 3,
    "terms": 3,
    "sanity_images": 2,
    "stages": 2,
    "seeds": 1,
    "sanity": {"vgg16": ("LICNN", "Edge detector", "Guided Backprop", *results.OTHERS_COMPARED)},
    "digits": {"networks": ("alexnet",), "train": 40, "test": 20, "epochs": 1, "shrink": 4, "seeds": 1},
    "vgg": None,
}
SETS = {"imagenet_val_50000": 3, "imagenet-a": 3, "imagenet_val": 4, "nips2017_dev": 8}


def thin_vgg16(name: str) -> nn.Module:
    assert name == "vgg16"
    layers = [8, 8, "M", 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M"]
    network = torchvision.models.VGG(torchvision.models.vgg.make_layers(layers), init_weights=False)
    network.classifier = nn.Sequential(nn.Linear(8 * 7 * 7, 32), nn.ReLU(True), nn.Linear(32, 1000))
    return network


def drawn(rng: np.random.Generator) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((400, 300), Image.Resampling.BICUBIC)


def stems(name: str, count: int) -> list[str]:
    """File names of a set's stand-in; some of nips2017_dev are those around whose people, or objects of no
    class, we drew boxes."""
    if name != "nips2017_dev":
        return [f"{name}_{number}" for number in range(count)]
    folder = ROOT / "saliencylib" / "data"
    tables = [pd.read_csv(folder / f"{t}.csv", dtype=str) for t in ("people", "unknown_objects")]
    boxed = [s for t in tables for s in t.query("set == 'nips2017_dev'")["photograph"].unique()[: count // 4]]
    return [*boxed, *(f"{number:016x}" for number in range(count - len(boxed)))]


def write_set(root: Path, name: str, pictures: list[Image.Image], labels: list[int]) -> None:
    """A set in its official layout: a folder a synset, or a folder of images beside their labels.csv."""
    rows = []
    for stem, picture, label in zip(stems(name, len(pictures)), pictures, labels, strict=True):
        synset = ImageNetInfo().label_names()[label]
        kind = {"imagenet-a": "jpg", "nips2017_dev": "png"}.get(name, "JPEG")
        by_csv = name in ("imagenet_val", "nips2017_dev")
        path = root / name / ("images" if by_csv else synset) / f"{stem}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        rows.append(
            {"file": path.name, "wnid": synset, "index": label, "width": picture.width}
            | {"height": picture.height, "boxes": "0.2 0.3 0.7 0.8", "author": "A. Author", "url": "page"}
        )
    if by_csv:
        pd.DataFrame(rows).to_csv(root / name / "labels.csv", index=False)


@pytest.fixture
def official_layout(tmp_path, monkeypatch):
    """The data root; whatever class the random network sees in a photograph is the right one."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    torch.manual_seed(0)
    network = thin_vgg16("vgg16")
    pictures = [drawn(rng) for _ in range(sum(SETS.values()))]
    model = classifiers.as_classifier(copy.deepcopy(network))
    crops = [model.preprocess.cut(picture) for picture in pictures]
    with torch.no_grad():
        logits = model(torch.stack([model.preprocess.normalise(crop) for crop in crops]))
        for random in (network, model):  # without the mean, so that classes differ
            random.classifier[-1].bias -= logits.mean(0)
    first = blur.top_classes(model, crops)[:, 0].tolist()
    (root / "weights").mkdir(parents=True)
    torch.save(network.state_dict(), root / "weights" / "vgg16.pth")
    for name, count in SETS.items():
        write_set(root, name, pictures[:count], first[:count])
        del pictures[:count], first[:count]
    monkeypatch.setattr(torchvision.models, "get_model", thin_vgg16)
    monkeypatch.setenv("SALIENCY_DATA", str(root))
    monkeypatch.setenv("SALIENCY_RESULTS", str(tmp_path / "results"))
    return tmp_path


def test_paper_profile_judges_what_mini_judges_on_the_official_layout(official_layout, monkeypatch):
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
    measured = pd.read_csv(tables / "03_claims.csv").query("part == 'effect'").set_index("id")
    assert set(measured.index) == set(claims.table().query("paper == 'LICNN'")["id"])
    silent = measured[measured["measured"].isna() | measured["reason"].notna()]
    assert list(silent.index) == ["LI-X1a"], "three photographs, all right, leave none to turn right"
    assert silent["reason"].str.startswith("too few photographs are wrong").all()
    assert set(measured["source"].dropna()) == {"paper", "real", "embedded"}
    assert set(measured.index[measured["source"] == "embedded"]) == {"LI-X3"}, "its digits"
    blurred = measured.loc[["LI-F15a", "LI-F15o", "LI-F15b", "LI-F16"]]
    assert (blurred["source"] == "paper").all() and (blurred["n"] == 3).all()
    assert measured.loc["LI-F15b", "data"] == "imagenet_a, vgg16"
    assert (measured.loc[["LI-X6", "LI-X8"], "data"] == "imagenet_val, official boxes, vgg16").all()
    assert namespace["model"](torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
