"""Tensors find each other's device, tried without a GPU: on a pretended device that refuses what CUDA does.

A tensor there calls its device "meta", and holds its values in a tensor on the CPU beside it. Whatever would
fail on a GPU fails: tensors of two devices in one operation, a CPU generator, NumPy. What works must give
what the CPU gives, to the last bit, since the CPU computes both.
"""

import inspect
import pkgutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import saliencylib
from saliencylib import figures, inputs, metrics, saliency, stats
from saliencylib.digits import cluttered_digits
from saliencylib.licnn import attribution, background, blur, localisation, results, sanity, shortcut
from saliencylib.licnn import figures as licnn_figures
from saliencylib.licnn.attribution import attribute
from saliencylib.licnn.classifiers import Preprocess, as_classifier
from saliencylib.licnn.crops import PhotoCrops, joined_pairs
from saliencylib.licnn.method import LICNN
from saliencylib.photograph import views
from saliencylib.sal_mask import figures as sal_mask_figures
from saliencylib.sal_mask import network as sal_mask_network
from saliencylib.sal_mask import training as sal_mask_training
from saliencylib.shallow_cnn import figures as shallow_figures
from saliencylib.shallow_cnn import network as shallow_network
from saliencylib.shallow_cnn import shipped
from saliencylib.shallow_cnn import training as shallow_training
from saliencylib.study import benchmarks, keep

CPU, AWAY = torch.device("cpu"), torch.device("meta")
aten = torch.ops.aten
CROSSING = (aten.copy_.default, aten._to_copy.default)


# ------------------------------------------------------------------------------------------- the device


class AwayTensor(Tensor):
    """A tensor on ``AWAY``, whose values ``held`` has."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "AwayTensor":
        about = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = Tensor._make_wrapper_subclass(cls, held.shape, **about, device=AWAY)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})

    def tolist(self) -> list:  # a GPU's tensor can, other kinds of tensors cannot
        return self.held.tolist()


class PretendedDevice(TorchDispatchMode):
    """While inside, ``AWAY`` is a device that computes."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


def _computed(func: Callable, args: tuple, kwargs: dict) -> object:
    """What an operation gives, where all that it takes is on one device; RuntimeError where it is not.

    As on a GPU, a single number that is only read and the indices of ``x[indices]`` may be on the CPU, and
    copies cross.
    """
    given, form = pytree.tree_flatten((args, kwargs))
    away = {id(value.held): value for value in given if isinstance(value, AwayTensor)}
    here = [value for value in given if isinstance(value, Tensor) and not isinstance(value, AwayTensor)]
    asked = [value for value in given if isinstance(value, torch.device)]
    there = AWAY in asked if asked else bool(away)
    written = func._schema.is_mutable and any(args[0] is value for value in here)
    crosses = func in CROSSING or (func is aten.index.Tensor and isinstance(args[0], AwayTensor))
    if away and not crosses and (written or any(value.ndim for value in here)):
        raise RuntimeError(f"{func} takes tensors of two devices, {AWAY} and {CPU}")
    if there and any(isinstance(value, torch.Generator) for value in given):
        raise RuntimeError(f"{func} on {AWAY} takes a generator of {CPU}")
    on_cpu = [
        v.held if isinstance(v, AwayTensor) else CPU if isinstance(v, torch.device) else v for v in given
    ]
    args, kwargs = pytree.tree_unflatten(on_cpu, form)

    def placed(value: object) -> object:
        if not isinstance(value, Tensor) or any(value is other for other in here if not asked):
            return value
        known = {} if asked else away  # what wrote into a tensor gives that tensor back
        return known[id(value)] if id(value) in known else AwayTensor(value) if there else value

    return pytree.tree_map(placed, func(*args, **kwargs))


@pytest.fixture(autouse=True)
def _device(own_cache, in_process, monkeypatch):
    """The pretended device, in place of what torch knows of real ones alone."""
    monkeypatch.setenv("SALIENCY_RESULTS", str(own_cache / "results"))
    monkeypatch.setattr(torch, "tensor", _tensor)
    monkeypatch.setattr(inputs, "lacks_values", lambda tensor: False)
    monkeypatch.setattr(shallow_training, "mixed_precision", lambda device, wanted: nullcontext())
    for name in ("SGD", "AdamW"):
        plain = getattr(torch.optim, name)
        monkeypatch.setattr(shallow_training, name, lambda w, fused, plain=plain, **o: plain(w, **o))
    with PretendedDevice():
        yield


def _tensor(data: object, *, device: torch.device = CPU, made=torch.tensor, **options: object) -> Tensor:
    return made(data, **options).to(device)


def test_the_device_refuses_what_a_gpu_refuses():
    away, here = torch.ones(3).to(AWAY), torch.ones(3)
    assert (away + 1).device == AWAY and (away + torch.tensor(1)).tolist() == [2, 2, 2]
    assert away[torch.tensor([0, 2])].device == AWAY and torch.ones(2, device=AWAY).device == AWAY
    assert here.copy_(2 * away).tolist() == [2, 2, 2] and here.device == away.cpu().device == CPU
    refused = [
        lambda: away + here,
        lambda: here + away.sum(),
        lambda: here.sum().add_(away.sum()),
        lambda: here[torch.tensor([0]).to(AWAY)],
        lambda: torch.cat([here, away]),
        lambda: nn.Linear(3, 1)(away),
        lambda: nn.Linear(3, 1).to(AWAY)(here),
        lambda: away.normal_(generator=torch.Generator()),
        lambda: torch.rand(2, device=AWAY, generator=torch.Generator()),
        lambda: away.numpy(),
        lambda: np.asarray(away),
    ]
    for number, call in enumerate(refused):
        with pytest.raises((RuntimeError, TypeError)):
            call()
            pytest.fail(f"call {number} passed")


def test_a_network_learns_on_the_device_what_it_learns_on_the_cpu():
    learned = []
    for device in (CPU, AWAY):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
        )
        network.to(device, memory_format=torch.channels_last)
        optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
        x = torch.randn(5, 3, 4, 4).to(device)
        for _ in range(2):
            optimiser.zero_grad()
            network(x).square().mean().backward()
            optimiser.step()
        assert {tensor.device for tensor in network.state_dict().values()} == {device}
        learned.append(network)
    assert keep.digest(learned[0]) == keep.digest(learned[1])


# ------------------------------------------------------------------------------------------- what is asked


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.5, 1.0, 2.0])[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x


def classifier() -> nn.Module:
    """Nine classes from crops of 32 pixels; weights of a container, of layers and of a normalisation."""
    torch.manual_seed(0)
    layers = [Scaled(), nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)]
    layers += [nn.ReLU6(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 9)]
    network = nn.Sequential(*layers)
    return as_classifier(network, Preprocess(36, 32), [f"class {i}" for i in range(9)], "small")


class Called(nn.Module):
    """Its activation is a function and a module called twice, so that ``as_classifier`` has to trace it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.relu(self.two(self.relu(self.one(x))))).mean((2, 3))


def scene(*away: str) -> SimpleNamespace:
    """What a call may take, with the parts named on the pretended device and the others on the CPU."""
    random = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, 32, 32, generator=random)
    pixels = torch.randint(256, (3, 3, 32, 32), generator=random).byte()
    maps, objects = torch.rand(3, 32, 32, generator=random), np.zeros((3, 32, 32), bool)
    objects[:, 8:20, 4:30] = True
    crops = [Image.fromarray(picture) for picture in pixels.permute(0, 2, 3, 1).numpy()]
    parts = {"model": classifier(), "images": images, "pixels": pixels, "maps": maps}
    parts |= {"classes": torch.tensor([4, 0, 1]), "x": torch.tensor([3, 30, 7]), "y": torch.tensor([9, 9, 0])}
    for name in away:
        parts[name] = parts[name].to(AWAY)
    seen = PhotoCrops(list("abc"), crops, objects, np.arange(3), [(0,), (1, 4), (2,)])
    device = AWAY if "model" in away else CPU
    return SimpleNamespace(**parts, seen=seen, objects=objects, device=device)


PLACES = {"network": ["model"], "images": ["images", "pixels", "classes", "maps", "x", "y"]}


@pytest.fixture
def alike(own_cache, monkeypatch) -> Callable:
    """Asks ``call(scene)`` with some of the scene away: what comes out, once it is seen to be the CPU's."""

    def check(call: Callable[[SimpleNamespace], object], away: list[str]) -> object:
        found = call(scene(*away))
        monkeypatch.setenv("SALIENCY_CACHE", str(own_cache / "of the CPU"))  # nothing is read back
        assert keep.digest(found) == _digest_on_the_cpu(call)
        return found

    return check


@cache
def _digest_on_the_cpu(call: Callable[[SimpleNamespace], object]) -> str:
    return keep.digest(call(scene()))


def _shown(figure: Figure) -> list[np.ndarray]:
    """The pictures of a figure, row by row."""
    plt.close(figure)
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


ATTRIBUTIONS = {
    method: lambda s, method=method: attribute(method, s.model, s.images, s.classes, batch_size=2)
    for method in (*attribution.METHODS, *attribution.VARIANTS)
} | {
    attribution.GRADIENT_BASED: lambda s: attribute("LICNN, gradient-based", s.model, s.images, s.classes),
    attribution.EDGE_DETECTOR: lambda s: attribute("Edge detector", s.model, s.images, s.classes),
    "a probability": lambda s: attribute("Gradient", s.model, s.images, 3, signed=True, probability=True),
    "classes as a list": lambda s: attribute("Grad-CAM", s.model, s.images, [3, 2, 1]),
    "uint8 images": lambda s: attribute("Gradient", s.model, s.pixels, s.classes),
    "an array": lambda s: attribute("Gradient", s.model, np.float64(s.objects)[:, None].repeat(3, 1), 0),
    "LICNN.attribute": lambda s: LICNN(s.model).attribute(s.images, s.classes),
    "saliency_maps": lambda s: LICNN(s.model, batch_size=2).saliency_maps(s.images),
    "saliency_maps of uint8": lambda s: LICNN(s.model).saliency_maps(s.pixels, top=2),
    "attention_maps": lambda s: LICNN(s.model).attention_maps(s.images, s.classes[:, None].expand(3, 2)),
    "gradient_based_maps": lambda s: LICNN(s.model).gradient_based_maps(s.images),
    "steps": lambda s: [vars(step) for step in LICNN(s.model).steps(s.images, s.classes)],
    "max_c_maps": lambda s: LICNN(s.model).max_c_maps(s.images, s.classes),
    "kept_shares": lambda s: LICNN(s.model).kept_shares(s.images, s.classes),
    "network_input": lambda s: inputs.network_input(s.images.double(), s.model),
    "in inference mode": lambda s: torch.inference_mode()(attribute)("LICNN", s.model, s.images, s.classes),
}


@pytest.mark.parametrize("away", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("call", ATTRIBUTIONS.values(), ids=ATTRIBUTIONS)
def test_attributions_lie_where_the_network_lies(call, away, alike):
    found = pytree.tree_leaves(alike(call, away))
    assert {tensor.device for tensor in found} == {AWAY if "model" in away else CPU}


SOURCES = ("Grad-CAM", "random map", "LICNN, released code")
BLURRED = [blur.UNMODIFIED, *(blur.Variant(source, 0.35, "background", 5) for source in SOURCES)]
BLURRED += [blur.Variant("LICNN", "released", "background", 5), blur.Variant("boxes", "boxes", "object", 5)]
LOCALISED = [localisation.NO_INHIBITION, *localisation.CONTROLLED, "Gradient", "LICNN, five likeliest"]
EXPERIMENTS = {
    "top_classes_of_many": lambda s: blur.top_classes_of_many(s.model, s.seen.crops, chunk=2),
    "class_logits": lambda s: blur.class_logits(s.model, s.seen.crops),
    "blur_outcomes": lambda s: blur.blur_outcomes(s.model, s.seen, BLURRED, chunk=2),
    "background_outcomes": lambda s: background.background_outcomes(s.model, s.seen),
    "localisation_scores": lambda s: localisation.localisation_scores(
        s.model, s.seen, LOCALISED, batch_size=2
    ),
    "own_halves": lambda s: localisation.own_halves(
        s.model, torch.cat([s.images[:1]] * 2, 3), s.classes[None, :2], 1
    ),
    "joined_pairs": lambda s: joined_pairs(
        s.model, s.seen.crops, np.array([[0], [1], [2]]), np.ones(3, bool), 2
    ),
    "randomisation_curves": lambda s: sanity.randomisation_curves(
        s.model, s.images, s.classes, ["LICNN", "SmoothGrad"], stages=2
    ),
    "maps_by_stage": lambda s: results.maps_by_stage(s.model, s.images[0], 1, ["LICNN", "Gradient"], shown=2),
    "switch_effects": lambda s: results.switch_effects(s.model, s.images[:1], s.classes[:1]),
    "term_effects": lambda s: results.term_effects(s.model, s.images, s.classes),
    "border_changes": lambda s: results.border_changes(s.model, s.images, s.classes, s.objects),
    "object_contrasts": lambda s: results.object_contrasts(s.model, s.seen, batch_size=2),
    "cost_in_forward_passes": lambda s: results.cost_in_forward_passes(
        lambda: LICNN(s.model).saliency_maps(s.images), s.model, s.images
    ),
    "shortcut_accuracies": lambda s: shortcut.shortcut_accuracies(
        s.model, cluttered_digits(3), shortcut.digit_crops(cluttered_digits(3), 3)
    ),
    "background_shares": lambda s: shortcut.background_shares({("alexnet", "tied", 0): s.model}, s.seen),
    "class_table": lambda s: views.class_table(s.model, dict(zip("abc", s.seen.crops, strict=True))),
    "inhibition_steps": lambda s: _shown(
        licnn_figures.inhibition_steps(
            s.seen.crops[0], LICNN(s.model).steps(s.images, s.classes), [0, 1], "x"
        )
    ),
    "as_classifier": lambda s: as_classifier(Called().to(s.device), Preprocess(16, 16)),
}


@pytest.mark.parametrize("away", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("call", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_experiments_take_networks_and_images_of_any_device(call, away, alike):
    alike(call, away)


@pytest.mark.parametrize("scheme", sanity.SCHEMES)
def test_randomised_copies_stay_on_the_device(scheme, alike):
    stages = alike(lambda s: list(sanity.randomized(s.model, scheme)), ["model"])
    assert [name for name, _ in stages] == ["8", "4", "1", "0"]
    for _, copied in stages:
        assert {tensor.device for tensor in copied.state_dict().values()} == {AWAY}


# What takes maps, fixations and photographs takes those of any device.
READERS = {
    **{
        of.__name__: lambda s, of=of: of(s.maps[0], s.maps[1])
        for of in (metrics.cc, metrics.sim, metrics.kl_div, sanity.hog_similarity, sanity.spearman_similarity)
    },
    **{
        of.__name__: lambda s, of=of: of(s.maps[0], s.x, s.y)
        for of in (metrics.nss, metrics.auc_judd, metrics.auc_borji)
    },
    "auc_shuffled": lambda s: metrics.auc_shuffled(s.maps[0], s.x, s.y, [(s.y, s.x)]),
    "information_gain": lambda s: metrics.information_gain(s.maps[0], s.maps[1], s.x, s.y),
    "score": lambda s: metrics.score(s.maps, [(s.x, s.y)] * 3, s.maps.flip(0), baseline=s.maps[1]),
    "fixation_density": lambda s: metrics.fixation_density(s.x, s.y, (32, 32), 2.0),
    "class_similarity": lambda s: sanity.class_similarity(s.maps[None]),
    "object_scores": lambda s: localisation.object_scores(s.maps, s.objects),
    "inside_minus_outside": lambda s: localisation.inside_minus_outside(s.maps, s.objects),
    "object_region": lambda s: [blur.object_region(s.maps[0], rule) for rule in ("released", "offset", 0.3)],
    "map_stack": lambda s: saliency.map_stack(list(s.pixels.permute(0, 2, 3, 1)), "ft"),
    "show": lambda s: _shown(figures.show(s.maps[0], s.pixels[0].permute(1, 2, 0))),
    "figure_22": lambda s: _shown(
        licnn_figures.figure_22(s.seen.crops[0], {"a way": s.maps}, "abc", stats.exact(True), "x")
    ),
    "target_classes": lambda s: inputs.target_classes(s.classes, 3),
    "digest": lambda s: keep.digest(s.maps, s.model),
}


@pytest.mark.parametrize("call", READERS.values(), ids=READERS)
def test_readers_take_maps_of_any_device(call, alike):
    alike(call, sum(PLACES.values(), []))


# ------------------------------------------------------------------------------------------- paper 1


NETWORKS = {
    connection: partial(sal_mask_network.connected, connection=connection)
    for connection in sal_mask_network.CONNECTIONS
} | {"resized": lambda plain: sal_mask_network.SalMask(pooled(plain), plain.rest, resize=True)}


def pooled(plain: nn.Module) -> nn.Module:
    return nn.Sequential(plain.first, nn.MaxPool2d(2))


def masked(s: SimpleNamespace, name: str = "first") -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name](sal_mask_network.nin(width=0.0625)).to(s.device)


MASKED = {
    "predicted_classes": lambda s, of: sal_mask_training.predicted_classes(of, s.images, s.maps),
    "in inference mode": lambda s, of: torch.inference_mode()(of.eval())(s.images, s.maps),
    "in training": lambda s, of: of.train()(s.images, s.maps),
    "maps with a channel": lambda s, of: of.eval()(s.images, s.maps[:, None]),
    "arrays as maps": lambda s, of: of.eval()(s.images, np.float32(s.objects)),
}


@pytest.mark.parametrize("away", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("call", MASKED.values(), ids=MASKED)
@pytest.mark.parametrize("name", NETWORKS)
def test_masked_networks_answer_where_they_lie(name, call, away, alike):
    assert alike(lambda s: call(s, masked(s, name)), away).device == (AWAY if "model" in away else CPU)


def test_layers_are_read_from_a_network_of_any_device(alike):
    alike(
        lambda s: sal_mask_network.layer_table(sal_mask_network.nin(width=0.0625).to(s.device), 16), ["model"]
    )


@pytest.mark.parametrize("away", PLACES.values(), ids=PLACES)
def test_figure_3_is_drawn_on_any_device(away, alike):
    def drawn(s: SimpleNamespace) -> list[np.ndarray]:
        pixels = np.asarray(s.seen.crops[0])
        return _shown(sal_mask_figures.figure_3(masked(s), pixels, s.images[:1], s.maps[0], "x"))

    alike(drawn, away)


RECIPE = sal_mask_training.ClassifierRecipe("nin", "RC", 0, 2, 0.0625, 0.5, 8, "adamw", 0.002, 0)


def material() -> sal_mask_training.Material:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8), np.arange(20) % 10
    maps = rng.random((20, 16, 16)).astype(np.float32)
    return sal_mask_training.Material(images, labels, images, labels, 10, {"RC": (maps, maps)})


@pytest.mark.parametrize("changes", [{}, {"optimiser": "sgd"}, {"connection": "learned"}], ids=str)
def test_masked_classifiers_train_on_the_device(changes, alike):
    def trained(s: SimpleNamespace) -> list[object]:
        recipe, given = replace(RECIPE, **changes), material()
        log = sal_mask_training.accuracies_by_epoch([recipe], given, s.device)
        elsewhere = sal_mask_training.accuracies_elsewhere([recipe], given, {"same": given}, s.device)
        network = sal_mask_training.trained_classifier(recipe, given, s.device)  # from its checkpoint
        assert {tensor.device for tensor in network.state_dict().values()} == {s.device}
        return [log, elsewhere, network]

    alike(trained, ["model"])


@pytest.mark.parametrize("flips", [False, True])
def test_images_and_truths_are_brought_to_the_device(flips, alike):
    def brought(s: SimpleNamespace) -> list[Tensor]:
        images = material().train_images
        normalised = sal_mask_training.normalised_images(images, images, s.device)
        pairs = shallow_training.on_device(gaze_pairs(), s.device, flips)
        assert {tensor.device for tensor in (normalised, *pairs)} == {s.device}
        return [normalised, *pairs]

    alike(brought, ["model"])


def test_checkpoints_go_on_where_the_network_lies(alike):
    def after_three_steps(s: SimpleNamespace) -> nn.Module:
        for done in range(2):
            network = masked(s).eval()
            optimiser = torch.optim.AdamW(network.parameters(), 0.1)
            checkpoint = keep.Checkpoint("c", keep.kept, 1)
            assert checkpoint.restore(network, optimiser)[0] == done
            for _ in range(1 + done):
                network(s.images, s.maps).square().mean().backward()
                optimiser.step()
            checkpoint.save(network, optimiser, done + 1, {"loss": [0.5]})
        return network

    alike(after_three_steps, ["model"])


# ------------------------------------------------------------------------------------------- paper 2


GAZE_RECIPES = {
    loss: shallow_training.GazeRecipe(
        loss, width=0.1, hidden=16, batch=8, epochs=2, loss_every=1, validate_every=1
    )
    for loss in shallow_network.GAZE_LOSSES
}
GAZE_RECIPES["the rest"] = replace(
    GAZE_RECIPES["mse"], preset="pan2016", prior=True, start="he", optimiser="adamw", patience=1
)


def gaze_pairs() -> shallow_training.GazePairs:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(6, 96, 96, 3), dtype=np.uint8)
    return shallow_training.GazePairs(images, rng.random((6, 48, 48), dtype=np.float32))


@pytest.mark.parametrize("recipe", GAZE_RECIPES.values(), ids=GAZE_RECIPES)
def test_gaze_networks_train_and_predict_on_the_device(recipe, alike):
    def trained(s: SimpleNamespace) -> list[object]:
        (found,) = shallow_training.train_gaze_networks([recipe], gaze_pairs(), gaze_pairs(), s.device)
        assert {tensor.device for tensor in found.last.state_dict().values()} == {s.device}
        maps = shallow_training.maps_by_training([found], gaze_pairs().images, s.device)
        (same,) = maps.values()  # ``predicted_maps`` keeps them by the type of the device
        assert (shallow_training.predicted_maps(found.model, recipe, gaze_pairs().images, CPU) == same).all()
        filters = _shown(shallow_figures.figure_4(found, np.ones((3, 3, 5, 5), np.float32), "d"))
        losses = found.train_losses, found.validation_losses
        return [found.best, found.last, *losses, list(maps.values()), filters]

    alike(trained, ["model"])


@pytest.mark.parametrize("start", shallow_training.STARTS)
def test_the_plateau_is_watched_on_the_device(start, alike):
    recipe = replace(GAZE_RECIPES["l1"], start=start)
    alike(lambda s: shallow_training.plateau_trace(recipe, *[gaze_pairs()] * 2, 2, 1, s.device), ["model"])


STARTS = {
    "paper": lambda network: shallow_network.paper_start(network, 1),
    "he": lambda network: shallow_network.he_start(network, 1),
    "mean map": lambda network: shallow_network.mean_map_start(network, torch.rand(48, 48), 1),
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_network_starts_on_the_device_as_on_the_cpu(start, alike):
    def started(s: SimpleNamespace) -> nn.Module:
        network = shallow_network.shallow_saliency_cnn(width=0.1, hidden=16).to(s.device)
        torch.manual_seed(0)
        start(network)
        return network

    alike(started, ["model"])


def test_gaze_is_predicted_where_the_network_lies(alike):
    def predicted(s: SimpleNamespace) -> np.ndarray:
        network = shallow_network.shallow_saliency_cnn(width=0.1, hidden=16).to(s.device)
        found = shipped.predicted_gaze(network, s.seen.crops[0])
        assert network.full.weight.device == s.device
        return found

    alike(predicted, ["model"])


# ------------------------------------------------------------------------------------------- benchmarks


def test_the_gaze_step_is_timed_on_the_device():
    assert benchmarks.gaze_step_speed(AWAY, batch=4, repeats=1, width=0.1, hidden=64)["seconds"] > 0


def test_licnn_is_timed_on_the_device():
    assert benchmarks.licnn_speed(AWAY, "squeezenet1_1", count=1, size=64, repeats=1)["floor"] > 0


def test_speeds_of_all_networks_are_taken_on_the_device(monkeypatch):
    asked = []
    monkeypatch.setattr(benchmarks, "licnn_speed", lambda device, *_: asked.append(device) or {})
    benchmarks.licnn_speeds(AWAY)
    assert set(asked) == {AWAY}


def test_no_public_function_that_takes_a_device_is_left_out():
    taking = set()
    for module in pkgutil.walk_packages(saliencylib.__path__, "saliencylib."):
        for name, function in vars(import_module(module.name)).items():
            if inspect.isfunction(function) and function.__module__ == module.name and name[0] != "_":
                device = inspect.signature(function).parameters.get("device")
                if device is not None and "torch.device" in str(device.annotation):
                    taking.add(name)
    assert {"maps_by_training", "licnn_speed"} < taking
    here = Path(__file__).read_text()
    assert not {name for name in taking if f"{name}(" not in here and f"{name}s(" not in here}


# ------------------------------------------------------------------------------------------- side by side


@pytest.mark.parametrize("shares, workers", [(0.5, 0), (2.5, 2), (9, 4)])
def test_small_trainings_share_a_gpu_by_its_memory_and_the_cores(shares, workers, monkeypatch):
    asked = []

    def as_they_come(work: Callable, jobs: list[tuple], count: int, device: torch.device) -> list[keep._Done]:
        asked.append((len(jobs), count))
        return [keep._done(work, job, number, device) for number, job in enumerate(jobs)]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (shares * keep.GPU_SHARE, 1e12))
    monkeypatch.setattr(keep, "cpu_count", lambda: 4)
    monkeypatch.setattr(keep, "_as_they_come", as_they_come)
    monkeypatch.setattr(keep, "recording", True)
    monkeypatch.setattr(keep, "code_of", lambda module: "")
    marks, jobs = [{"seed": 0}, {"seed": 1}], [(2,), (3,)]
    for _ in range(2):
        found = keep.recorded_side_by_side("small", _squared, jobs, marks, jobs, torch.device("cuda"))
        assert [frame["value"].item() for frame in found] == [4, 9]
        assert found[0]["made_on"].item().startswith("Some GPU, torch")
    assert asked[0] == (2, workers)
    assert asked[1][0] == 0, "on a GPU every training is recorded, however short"


def _squared(number: int) -> pd.DataFrame:
    return pd.DataFrame({"value": [number**2]})
