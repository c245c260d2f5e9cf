import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from saliencylib.data import REGISTRY, DataInvalid, DataNotFound, fixation_set
from saliencylib.metrics import cc
from saliencylib.shallow_cnn import shipped
from saliencylib.shallow_cnn.gaze import from_fixations
from saliencylib.shallow_cnn.results import correlations
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


def test_the_shipped_network_scores_as_its_header_says(real_data):
    small, facts = shipped.shipped_network()
    test = from_fixations(fixation_set("mit1003").select(np.arange(0, 1003, 4)))
    maps = predicted_maps(small, shipped.SHIPPED_RECIPE, test.images, torch.device("cpu"))
    value = float(facts["cc"].split()[0])
    assert correlations(maps, test.targets).mean() == pytest.approx(value, abs=0.03)
    assert value > float(facts["cc_mean_map"].split()[0])


def test_a_damaged_or_missing_network_is_named(tmp_path):
    with pytest.raises(DataNotFound, match="none.safetensors is missing.*git checkout"):
        shipped.shipped_network(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(shipped.WEIGHTS.read_bytes()[:5000])
    with pytest.raises(DataInvalid, match="cut.safetensors cannot be read"):
        shipped.shipped_network(tmp_path / "cut.safetensors")
