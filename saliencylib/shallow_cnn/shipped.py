"""The small shallow saliency network that comes with the study, for photographs of one's own.

``python -m saliencylib.shipped`` trains it anew, given the data, and writes
``shipped/shallow_cnn.safetensors``: weights in half precision, and in the file's header what it was trained
on and how well it does.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from saliencylib.study import cache
from saliencylib import data, stats
from saliencylib.shallow_cnn.network import gaze
from saliencylib.shallow_cnn.network import results as evaluation
from saliencylib.shallow_cnn.network import training
from saliencylib.shallow_cnn.network import INPUT_SIZE, ShallowSaliencyCNN, shallow_saliency_cnn

PATH = Path(__file__).with_name("shipped") / "shallow_cnn.safetensors"
# Sets whose licence (MIT) lets what was learned from them be given away.
TRAINED_ON = ("crowd", "scene", "osie")
# Few enough weights for a repository: a quarter of the maps, a sixteenth of the full layer.
RECIPE = replace(
    training.RECIPES["starts at the mean map"],
    loss="kl",
    width=0.25,
    hidden=288,
    batch=32,
    epochs=12,
    rates=(5e-4, 2.5e-5),
)


def network(path: Path = PATH) -> tuple[ShallowSaliencyCNN, Mapping[str, str]]:
    """The shipped network in eval mode, and the facts in its file's header: trained_on, images, tested_on,
    cc and cc_mean_map (each a value with its 95 % interval over images), recipe (JSON), parameters.

    Raises ``data.DataNotFound`` or ``data.DataInvalid``, naming the file, when it is missing or damaged.
    """
    model = shallow_saliency_cnn(RECIPE.preset, RECIPE.hidden, RECIPE.width)
    try:
        with safe_open(path, "pt") as file:
            model.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})
            facts = file.metadata()
    except FileNotFoundError as error:
        raise data.DataNotFound(f"{path} is missing: get it again with git checkout, or {_HOW}") from error
    except Exception as error:  # safetensors and torch raise types of their own for damaged files
        raise data.DataInvalid(f"{path} cannot be read: get it again with git checkout, or {_HOW}") from error
    return model.eval(), facts


_HOW = "train it with python -m saliencylib.shipped"


def saliency_map(model: ShallowSaliencyCNN, picture: Image.Image) -> np.ndarray:
    """Where people are predicted to look in an RGB picture of any size: (48, 48) float32, sum 1 over the map.

    The picture is stretched to 96x96 pixels, as the network's training images were.
    """
    pixels = np.array(picture.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR))
    maps = training.predict(model, RECIPE, pixels[None], torch.device("cpu"))[0]
    return maps / maps.sum()


def training_sets() -> tuple[training.Pairs, training.Pairs]:
    """Training and validation pairs of ``TRAINED_ON``; images of osie that notebook 02 shows are left out."""
    parts: tuple[list, list] = ([], [])
    for name in TRAINED_ON:
        fixations = data.fixation_set(name)
        if name == "osie":
            fixations = fixations.select(np.arange(len(fixations)) % gaze.HELD_OUT_EVERY != 0)
        found = gaze.from_fixations(fixations, showable=False)
        validates = np.arange(len(found)) % gaze.VALIDATION_EVERY == 0
        for part, chosen in zip(parts, (~validates, validates), strict=True):
            part.append(found.select(chosen))
    return gaze.joined(parts[0]), gaze.joined(parts[1])


def train(path: Path = PATH) -> Mapping[str, str]:
    """Train the network on ``TRAINED_ON``, test what was stored on mit1003, write ``path``; its facts."""
    pairs, validation = training_sets()
    trained = training.train(RECIPE, pairs, validation, torch.device("cpu"))
    model = trained.model.half().float()
    test = gaze.from_fixations(data.fixation_set("mit1003"), showable=False)
    predicted = training.predict(model, RECIPE, test.images, torch.device("cpu"))
    level = np.broadcast_to(training.mean_map(pairs), predicted.shape)
    facts = {
        "trained_on": ", ".join(TRAINED_ON),
        "images": str(len(pairs)),
        "tested_on": f"{test.name}, {len(test)} images",
        "cc": str(stats.bootstrap_interval(evaluation.correlations(predicted, test.targets))),
        "cc_mean_map": str(stats.bootstrap_interval(evaluation.correlations(level, test.targets))),
        "recipe": json.dumps(asdict(RECIPE)),
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
    }
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    cache.write(path, lambda temporary: save_file(weights, temporary, facts))
    return facts


if __name__ == "__main__":
    for name, value in train().items():
        print(f"{name}: {value}")
