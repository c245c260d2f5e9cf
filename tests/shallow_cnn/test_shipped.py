import json

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from saliencylib.data import REGISTRY, DataInvalid, DataNotFound, fixation_set
from saliencylib.metrics import cc
from saliencylib.shallow_cnn import shipped
from saliencylib.shallow_cnn.gaze import from_fixations, held_out_of_osie
from saliencylib.shallow_cnn.results import OWN_MINUS_OTHERS, correlations, correlations_with_others
from saliencylib.shallow_cnn.training import predicted_maps

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_shipped_network_is_small_trained_and_says_on_what():
    small, facts = shipped.shipped_network()
    assert shipped.WEIGHTS.stat().st_size < 3 * 2**20
    assert f"{sum(p.numel() for p in small.parameters()):,}" == facts["parameters"]
    assert facts["trained_on"] == ", ".join(shipped.TRAINED_ON)
    assert all(REGISTRY[name].licence.startswith("MIT") for name in shipped.TRAINED_ON)
    pictures = [Image.fromarray(pixels) for pixels in (skimage.data.coffee(), skimage.data.rocket())]
    first, second = (shipped.predicted_gaze(small, picture) for picture in pictures)
    assert first.shape == (48, 48) and first.sum() == pytest.approx(1) and first.min() >= 0
    assert cc(first, second) < 0.95


def test_the_shipped_network_has_learned_as_its_header_says():
    _, facts = shipped.shipped_network()
    value, mean_map, focus = (float(facts[n].split()[0]) for n in ("cc", "cc_mean_map", "own_minus_others"))
    assert value > mean_map and focus >= OWN_MINUS_OTHERS
    low = float(facts["own_minus_others"].split("[")[1].split(",")[0])
    assert 0 < low < focus
    assert json.loads(facts["recipe"])["loss"] == "kl" and int(facts["best_epoch"]) >= 1


def test_the_shipped_network_scores_as_its_header_says(real_data):
    small, facts = shipped.shipped_network()
    test = from_fixations(fixation_set("mit1003").select(np.arange(0, 1003, 4)))
    maps = predicted_maps(small, shipped.SHIPPED_RECIPE, test.images, torch.device("cpu"))
    own = correlations(maps, test.targets)
    focus = (own - correlations_with_others(maps, test.targets)).mean()
    assert own.mean() == pytest.approx(float(facts["cc"].split()[0]), abs=0.03)
    assert focus == pytest.approx(float(facts["own_minus_others"].split()[0]), abs=0.03)
    assert focus >= OWN_MINUS_OTHERS


def test_the_shipped_network_never_saw_the_held_out_pictures(real_data):
    osie = fixation_set("osie")
    judged = {image.tobytes() for image in osie.select(held_out_of_osie(osie.names)).images(96, 96)}
    seen = {image.tobytes() for pairs in shipped.shipped_pairs() for image in pairs.images}
    assert len(judged) == 200 and not seen & judged


def test_a_damaged_or_missing_network_is_named(tmp_path):
    with pytest.raises(DataNotFound, match="none.safetensors is missing.*git checkout"):
        shipped.shipped_network(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(shipped.WEIGHTS.read_bytes()[:5000])
    with pytest.raises(DataInvalid, match="cut.safetensors cannot be read"):
        shipped.shipped_network(tmp_path / "cut.safetensors")
