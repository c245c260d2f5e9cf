"""A user's own networks and images: what the methods rest on is there, or a sentence says what is not."""

import warnings

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.nn import functional

from saliencylib.licnn.attribution import METHODS, attribute
from saliencylib.licnn.classifiers import Preprocess, as_classifier
from saliencylib.licnn.method import LICNN, l2_normalised
from saliencylib.licnn.sanity import randomized

REACHES_RELUS = ("LICNN", "LICNN, gradient-based", "Grad-CAM", "Guided Backprop", "Guided Grad-CAM")


class Small(nn.Module):
    """Two convolutions with ReLU, what ``between`` and ``answer`` make of it, and a full layer."""

    def __init__(self, relu=nn.ReLU, classes: int = 3, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(channels, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.relu_one, self.relu_two = relu(), relu()
        self.full = nn.Linear(6 * 16, classes)
        self.eval()

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.relu_one(self.one(x)), 2)
        return functional.max_pool2d(self.relu_two(self.two(x)), 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.full(self.features(x).flatten(1))


class Functional(Small):
    def features(self, x):
        return functional.max_pool2d(torch.relu(self.two(functional.relu(self.one(x)))), 8)


class Mixed(Small):
    def features(self, x):
        return functional.max_pool2d(functional.relu(self.two(self.relu_one(self.one(x)))), 8)


class Embedding(Small):
    """One ReLU on a branch that ends beside the logits, first or last in order."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first, self.beside, self.relu_beside = first, nn.Conv2d(3, 4, 3), nn.ReLU()

    def forward(self, x):
        before = self.relu_beside(self.beside(x)) if self.first else None
        logits = super().forward(x)
        return logits, before if self.first else self.relu_beside(self.beside(x))


class Frozen(Small):
    def features(self, x):
        with torch.no_grad():
            return super().features(x)


class Answers(Small):
    def __init__(self, wrap) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(super().forward(x))


@pytest.fixture
def network() -> nn.Module:
    return Small()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# ------------------------------------------------------------------------------------------- images


FORMS = {
    "array": lambda x: x.numpy(),
    "double": lambda x: x.double(),
    "double array": lambda x: x.double().numpy(),
    "big-endian array": lambda x: x.numpy().astype(">f4"),
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "array, channels last": lambda x: x.permute(0, 2, 3, 1).numpy(),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_of_every_form_give_the_same_maps(network, images, form):
    given = FORMS[form](images)
    licnn = LICNN(network, batch_size=1)
    assert torch.equal(licnn.saliency_maps(given), licnn.saliency_maps(images))
    for method in ("LICNN", "Gradient", "Edge detector"):
        assert torch.equal(attribute(method, network, given, 1), attribute(method, network, images, 1))


def test_bytes_are_standardised_by_the_networks_own_preprocess(network, images):
    pixels = torch.randint(
        0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with pytest.raises(ValueError, match="uint8.*as_classifier"):
        LICNN(network).saliency_maps(pixels)
    ready = as_classifier(network, Preprocess(32, 32))
    inputs = torch.stack([ready.preprocess.normalise(p.numpy()) for p in pixels])
    assert torch.allclose(attribute("Gradient", ready, pixels, 0), attribute("Gradient", ready, inputs, 0))
    assert torch.allclose(LICNN(ready).saliency_maps(pixels.numpy()), LICNN(ready).saliency_maps(inputs))
    with pytest.raises(ValueError, match=r"far outside.*give uint8 for 0\.\.255"):
        attribute(
            "Gradient",
            ready,
            pixels.float().clamp(0, 255).index_fill(0, torch.tensor([0]), 255) * 1.0 - 0 * 1,
            0,
        )


WRONG = {
    "a list": (lambda x: list(x), "not a list.*preprocess"),
    "whole numbers": (lambda x: x.long(), "floating point.*uint8, not torch.int64"),
    "whole numbers of NumPy": (lambda x: x.numpy().astype(int), "uint8, not int64"),
    "one image": (lambda x: x[0], r"N, 3, H, W.*images\[None\]"),
    "none": (lambda x: x[:0], "N, 3, H, W"),
    "NaN": (lambda x: x.where(x < 1, torch.nan), "NaN or infinity"),
    "infinity": (lambda x: x.where(x < 1, torch.inf), "NaN or infinity"),
    "grey": (lambda x: x[:, :1], r"shape \(2, 1, 32, 32\).*takes 3 channels"),
    "too large": (lambda x: x.repeat(1, 1, 2, 2), r"fails on images of shape \(2, 3, 64, 64\)"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_other_images_are_refused_in_a_sentence(network, images, wrong):
    change, message = WRONG[wrong]
    for ask in (lambda x: LICNN(network).attribute(x, 0), lambda x: attribute("Gradient", network, x, 0)):
        with pytest.raises(ValueError, match=message):
            ask(change(images))


@pytest.mark.parametrize("target", [3, -1, [0, 1, 2], 0.5, [[0], [1]], [True, False]])
def test_classes_that_are_none_are_refused(network, images, target):
    for ask in (LICNN(network).attribute, lambda x, t: attribute("Gradient", network, x, t)):
        with pytest.raises(ValueError, match="class"):
            ask(images, target)


@pytest.mark.parametrize("method", [*METHODS, "LICNN, gradient-based"])
def test_maps_can_be_asked_for_in_inference_mode(network, images, method):
    network = as_classifier(network, Preprocess(32, 32))
    expected = attribute(method, network, images, torch.tensor([0, 1]))
    with torch.inference_mode():
        found = attribute(method, network, images.clone(), torch.tensor([0, 1]))
        assert LICNN(network).saliency_maps(images.clone()).shape == (2, 32, 32)
        copies = [attribute(method, changed, images, 0) for _, changed in randomized(network)]
    assert torch.equal(found, expected) and len(copies) == 3


def test_a_network_in_training_is_refused_by_every_method(network, images):
    network.train()
    for method in METHODS:
        with pytest.raises(ValueError, match="training mode"):
            attribute(method, network, images, 0)


# ------------------------------------------------------------------------------------------- answers


def test_a_network_of_few_classes_gives_them_all(images):
    two = Small(classes=2)
    maps = LICNN(two).attention_maps(images)
    assert maps.shape == (2, 2, 32, 32)
    assert torch.equal(LICNN(two).saliency_maps(images), l2_normalised(maps.sum(1)))


def test_the_softmax_of_one_logit_is_refused_and_the_logit_explained(images):
    one = Small(classes=1)
    for ask in (LICNN(one).saliency_maps, lambda x: attribute("Gradient", one, x, 0, probability=True)):
        with pytest.raises(ValueError, match="single logit"):
            ask(images)
    assert LICNN(one, softmax=False).attribute(images, 0).norm() > 0
    assert attribute("Gradient", one, images, 0).norm() > 0


@pytest.mark.parametrize(
    "wrap", [lambda y: {"logits": y}, lambda y: (y, y[:, :2]), lambda y: [y], lambda y: Named(y)]
)
@pytest.mark.parametrize("method", METHODS)
def test_logits_are_found_in_what_networks_answer(network, images, wrap, method):
    network, wrapped = (as_classifier(n, Preprocess(32, 32)) for n in (network, Answers(wrap)))
    assert torch.equal(attribute(method, wrapped, images, 1), attribute(method, network, images, 1))


class Named:
    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


@pytest.mark.parametrize(
    "wrap", [lambda y: {"out": y}, lambda y: y[:, :, None], lambda y: y.argmax(1), lambda y: ()]
)
def test_other_answers_are_refused(images, wrap):
    for ask in (LICNN(Answers(wrap)).saliency_maps, lambda x: attribute("Gradient", Answers(wrap), x, 0)):
        with pytest.raises(ValueError, match=r"logits \(N, classes\)"):
            ask(images)


def test_probabilities_in_place_of_logits_are_told(images):
    probable = Answers(lambda y: y.softmax(1))
    with pytest.warns(UserWarning, match="probabilities, not logits"):
        LICNN(probable).saliency_maps(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LICNN(probable, softmax=False).saliency_maps(images)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_a_way_of_gradients_is_refused(images, method):
    with pytest.raises(ValueError, match="no gradient leads|no gradient path"):
        attribute(method, Frozen(), images, 0)


# ------------------------------------------------------------------------------------------- activations


@pytest.mark.parametrize("method", REACHES_RELUS)
def test_networks_without_relu_modules_are_refused_with_the_remedy(images, method):
    with pytest.raises(ValueError, match="2 in calls of relu as a function.*as_classifier"):
        attribute(method, Functional(), images, 0)
    for other in (nn.SiLU, nn.GELU, nn.Hardswish, nn.LeakyReLU, nn.Tanh):
        with pytest.raises(ValueError, match=r"2 of another kind \(\w+\).*SmoothGrad"):
            attribute(method, Small(other), images, 0)


@pytest.mark.parametrize("method", REACHES_RELUS)
def test_missed_activations_are_counted_in_one_warning(images, method):
    with pytest.warns(UserWarning, match="1 of 3 activations") as told:
        attribute(method, Mixed(), images, 0)  # its second module is never called
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attribute(method, as_classifier(Mixed(), Preprocess(32, 32)), images, 0)


def test_licnn_looks_once(images):
    licnn = LICNN(Mixed(), batch_size=1)
    with pytest.warns(UserWarning, match="LICNN reaches 1 of 3") as told:
        licnn.saliency_maps(images)
        licnn.saliency_maps(images)
    assert len(told) == 1


def test_clamped_modules_are_not_guided(images):
    with pytest.raises(ValueError, match="2 in ReLU6 modules"):
        attribute("Guided Backprop", Small(nn.ReLU6), images, 0)
    assert LICNN(Small(nn.ReLU6)).attribute(images, 0).norm() > 0


@pytest.mark.parametrize("first", [True, False])
def test_a_relu_beside_the_logits_is_left_out(network, images, first):
    beside = Embedding(first)
    beside.load_state_dict(network.state_dict(), strict=False)
    for licnn, plain in ((LICNN(beside), LICNN(network)), (LICNN(beside, "text"), LICNN(network, "text"))):
        with pytest.warns(UserWarning, match="reaches 2 of 3.*1 in ReLUs from which no gradient path"):
            found = licnn.attention_maps(images)
        assert torch.equal(found, plain.attention_maps(images))
        assert len(licnn.max_c_maps(images, 0)) == 2
    assert torch.equal(attribute("Grad-CAM", beside, images, 1), attribute("Grad-CAM", network, images, 1))


# ------------------------------------------------------------------------------------------- randomisation


@pytest.mark.parametrize(
    "build",
    [
        lambda: torchvision.models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=3),
        lambda: torchvision.models.convnext.ConvNeXt(
            [torchvision.models.convnext.CNBlockConfig(8, None, 2)], num_classes=3
        ),
    ],
)
@pytest.mark.parametrize("scheme", ["cascading", "independent"])
def test_transformers_and_their_kin_are_randomised_everywhere(build, scheme):
    torch.manual_seed(0)
    network = build()
    for weight in network.parameters():  # as if trained
        nn.init.normal_(weight)
    before = dict(network.named_parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stages = list(randomized(network, scheme))
    changed = [{n for n, w in after.named_parameters() if not w.equal(before[n])} for _, after in stages]
    assert all(changed) and set().union(*changed) == set(before)
    assert all(stage for stage, _ in stages)


def test_weights_without_initial_ones_are_shuffled_and_a_stage_without_effect_is_told():
    class Scaled(nn.Module):
        def __init__(self, values) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(values))

    (_, shuffled), *_ = randomized(nn.Sequential(Scaled([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])))
    assert not shuffled[0].scale.equal(torch.arange(1.0, 7.0))
    assert shuffled[0].scale.sort().values.equal(torch.arange(1.0, 7.0))
    with pytest.warns(UserWarning, match="randomising 0 left all"):
        list(randomized(nn.Sequential(Scaled([1.0, 1.0]))))


# ------------------------------------------------------------------------------------------- as_classifier


def test_a_network_of_another_size_or_grey_says_what_helps(images):
    for network in (Small(), Small(channels=1)):
        with pytest.raises(ValueError, match=r"shape \(1, 3, 224, 224\).*Preprocess\(side=32"):
            as_classifier(network)
    grey = as_classifier(Small(channels=1), Preprocess(32, 32, (0.5,), (0.5,)))
    picture = torchvision.transforms.functional.to_pil_image(images[0])
    inputs = grey.preprocess(picture)[None]
    assert inputs.shape == (1, 1, 32, 32) and LICNN(grey).saliency_maps(inputs).shape == (1, 32, 32)
    pixels = np.asarray(picture.convert("L"))[None, :, :, None]
    assert torch.allclose(LICNN(grey).saliency_maps(pixels), LICNN(grey).saliency_maps(inputs))


def test_pictures_that_are_not_standardised_are_told():
    ready = as_classifier(torchvision.models.squeezenet1_1(num_classes=3), Preprocess(64, 64))
    with pytest.warns(UserWarning, match="as if not standardised"):
        LICNN(ready).saliency_maps(torch.rand(1, 3, 64, 64))


def test_a_picture_is_cut_from_a_file_or_an_array_too(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = np.asarray(Preprocess(32, 32).cut(Image.fromarray(pixels)))
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), pixels, pixels / 255):
        assert np.array_equal(np.asarray(Preprocess(32, 32).cut(given)), wanted)
    with pytest.raises(ValueError, match="an image must be"):
        Preprocess(32, 32).cut(pixels[None])


@pytest.mark.parametrize("method", ["LICNN", "Gradient", "Grad-CAM"])
def test_a_network_made_in_inference_mode_is_told(method):
    with torch.inference_mode():
        made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 900, 2)).eval()
    with pytest.raises(ValueError, match="made in torch.inference_mode"):
        attribute(method, made, torch.randn(1, 3, 32, 32), 0)
