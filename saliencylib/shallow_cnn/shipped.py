"""The small shallow saliency network that comes with the study, for photographs of one's own.

``python -m saliencylib.shallow_cnn.shipped`` trains it anew, given the data, and writes
``weights.safetensors``: weights in half precision, and in the file's header what it was trained on and how
well it does.
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

from saliencylib import stats
from saliencylib.data.fixations import fixation_set
from saliencylib.data.registry import DataInvalid, DataNotFound
from saliencylib.files import write
from saliencylib.inputs import check_network, rgb_picture
from saliencylib.shallow_cnn.gaze import from_fixations, gaze_pairs, held_out_of_osie, training_and_validation
from saliencylib.shallow_cnn.network import INPUT_SIZE, ShallowSaliencyCNN, shallow_saliency_cnn
from saliencylib.shallow_cnn.results import correlations, correlations_with_others
from saliencylib.shallow_cnn.training import (
    GAZE_RECIPES,
    GazePairs,
    mean_map,
    predicted_maps,
    train_gaze_network,
)

WEIGHTS = Path(__file__).with_name("weights.safetensors")
WEIGHTS_REMEDY = "get it again with git checkout, or train it with python -m saliencylib.shallow_cnn.shipped"
# Sets whose licence (MIT) lets what was learned from them be given away.
TRAINED_ON = ("crowd", "scene", "osie")
# Few enough weights for a repository: a quarter of the maps, a sixteenth of the full layer.
SHIPPED_RECIPE = replace(GAZE_RECIPES["stopped in time"], loss="kl")


def shipped_network(path: Path = WEIGHTS) -> tuple[ShallowSaliencyCNN, Mapping[str, str]]:
    """The shipped network in eval mode, and the facts in its file's header: trained_on, images, tested_on,
    cc, cc_mean_map and own_minus_others (CC with the own truth minus that with other images'), each a value
    with its 95 % interval over images, best_epoch, recipe (JSON), parameters.

    Raises DataNotFound or DataInvalid, naming the file, when it is missing or damaged.
    """
    model = shallow_saliency_cnn(SHIPPED_RECIPE.preset, SHIPPED_RECIPE.hidden, SHIPPED_RECIPE.width)
    try:
        with safe_open(path, "pt") as file:
            model.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})
            facts = file.metadata()
    except FileNotFoundError as error:
        raise DataNotFound(f"{path} is missing: {WEIGHTS_REMEDY}") from error
    except Exception as error:  # safetensors and torch raise types of their own for damaged files
        raise DataInvalid(f"{path} cannot be read: {WEIGHTS_REMEDY}") from error
    return model.eval(), facts


def predicted_gaze(model: ShallowSaliencyCNN, picture: Image.Image) -> np.ndarray:
    """Where people are predicted to look in an RGB picture of any size: (48, 48) float32, sum 1 over the map.

    The picture is stretched to 96x96 pixels, as the network's training images were. Raises ValueError for
    what is no network or no picture.
    """
    check_network(model)
    picture = rgb_picture(picture).convert("RGB")
    pixels = np.array(picture.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR))
    (saliency,) = predicted_maps(model, SHIPPED_RECIPE, pixels[None], next(model.parameters()).device)
    return saliency / saliency.sum()


def shipped_pairs() -> tuple[GazePairs, GazePairs]:
    """Training and validation pairs of ``TRAINED_ON``, eye data all: the osie images that notebook 02 tests
    on are left out, and every tenth of the others validates."""
    sets = {name: fixation_set(name) for name in TRAINED_ON}
    rest = sets.pop("osie")
    rest = from_fixations(rest.select(~held_out_of_osie(rest.names)))
    training, validation = training_and_validation(rest)
    return gaze_pairs([*map(from_fixations, sets.values()), training]), gaze_pairs([validation])


def train_shipped_network(path: Path = WEIGHTS) -> Mapping[str, str]:
    """Train the network on ``TRAINED_ON``, test what was stored on mit1003, write ``path``; its facts."""
    cpu = torch.device("cpu")
    training, validation = shipped_pairs()
    trained = train_gaze_network(SHIPPED_RECIPE, training, validation, cpu)
    model = trained.model.half().float()
    test = from_fixations(fixation_set("mit1003"))
    maps = predicted_maps(model, SHIPPED_RECIPE, test.images, cpu)
    level = np.broadcast_to(mean_map(training), maps.shape)
    cc, of_level = (correlations(m, test.targets) for m in (maps, level))
    measured = {
        "cc": cc,
        "cc_mean_map": of_level,
        "own_minus_others": cc - correlations_with_others(maps, test.targets),
    }
    facts = {
        "trained_on": ", ".join(TRAINED_ON),
        "images": str(len(training)),
        "tested_on": f"{test.name}, {len(test)} images",
        **{name: str(stats.bootstrap_interval(values)) for name, values in measured.items()},
        "best_epoch": str(trained.best_epoch),
        "recipe": json.dumps(asdict(SHIPPED_RECIPE)),
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
    }
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    write(path, lambda temporary: save_file(weights, temporary, facts))
    return facts


if __name__ == "__main__":
    for name, value in train_shipped_network().items():
        print(f"{name}: {value}")
