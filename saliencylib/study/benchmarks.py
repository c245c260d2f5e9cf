"""How fast the parts are on this machine: ``python -m saliencylib.benchmarks maps`` (or metrics, training,
shallow, precision, licnn).

Everything is timed on embedded or random data, so that any machine can be compared with any other.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.flop_counter import FlopCounterMode

from saliencylib.licnn.method import classifiers, method as licnn
from saliencylib import metrics, saliency, stats
from saliencylib.sal_mask.experiment import network as models, training
from saliencylib.study import session as profiles
from saliencylib.shallow_cnn.network import training as saliency_training, network as shallow_cnn
from saliencylib.study.checkpoints import mixed_precision
from saliencylib.digits import cluttered_digits
from saliencylib.metrics import Points
from saliencylib.sal_mask.experiment import digit_material
from saliencylib.sal_mask.training import Recipe

STL10 = {"train": 5000, "test": 8000, "epochs": 120}  # one run of the paper
SHALLOW = {"exact": "as printed", "short": "starts at the mean map"}  # paper 2's networks and their recipes


def maps_per_second(count: int = 600) -> pd.DataFrame:
    """Images of 96x96 pixels a second through ``saliency.map_stack``, computed and read again from its cache.

    Alpha, the slowest method, gets a quarter of ``count`` images. Columns method, images, computed, cached.
    """
    images = cluttered_digits(count).images
    rows = []
    for method in saliency.METHODS:
        some = images[: count // 4] if method == "alpha" else images
        saliency.map_stack(images[-40:], method)  # starts the worker processes, loads compiled code
        with tempfile.TemporaryDirectory() as folder:
            call = partial(saliency.map_stack, some, method, folder)
            rows.append((method, len(some), len(some) / _seconds(call), len(some) / _seconds(call)))
    return pd.DataFrame(rows, columns=["method", "images", "computed", "cached"])


def metric_speed(
    count: int = 500, shape: tuple[int, int] = (480, 640), splits: int = 100, plain_count: int = 5
) -> pd.DataFrame:
    """AUC-Borji and shuffled AUC with the published step of .1, of ``count`` maps with 60 fixations each.

    A row a metric: maps, seconds (of all through ``metrics.score``), plain (of the published loop, from
    ``plain_count`` maps), ratio (plain over seconds) and pysaliency (the seconds of its
    ``general_rocs_per_positive``, from as many maps, over ours; NaN where it is not installed). pysaliency
    has neither splits nor steps: what it computes is the one area over every value of the map, against all
    pixels or against all fixations that the splits draw from.
    """
    rng = np.random.default_rng(0)
    maps = _smooth_maps(count, shape)
    points = [(rng.integers(shape[1], size=60), rng.integers(shape[0], size=60)) for _ in maps]
    per_positive = _pysaliency_areas()
    rows = []
    for metric in ("auc_borji", "auc_shuffled"):
        seconds = _seconds(partial(metrics.score, maps, points, metrics=(metric,), splits=splits))
        plain = theirs = 0.0
        for i in range(plain_count):
            map, (x, y) = maps[i], points[i]
            others = metrics._others(maps, points, i, 10, rng) if metric == "auc_shuffled" else None
            plain += _seconds(partial(_published_area, map, x, y, others, splits, 0.1, rng))
            theirs += _seconds(partial(per_positive, map, x, y, others)) if per_positive else np.nan
        scale = count / plain_count / seconds
        rows.append((metric, count, seconds, plain * count / plain_count, plain * scale, theirs * scale))
    return pd.DataFrame(rows, columns=["metric", "maps", "seconds", "plain", "ratio", "pysaliency"])


def training_cost(device: torch.device, batch: int = 100, side: int = 96, repeats: int = 3) -> pd.DataFrame:
    """What a run of STL-10's size costs at full width: 5,000 training and 8,000 test images, 120 epochs.

    A row a network: step (seconds of a training step), floor (seconds of its convolutions and matrix products
    alone, forward and backward, timed in the same call), ratio, test (seconds of a test batch), run (seconds,
    from these) and petaflop (of the run, multiplications and additions counted apart).
    """
    rows = []
    for name in models.NETWORKS:
        recipe = Recipe(name, "plain", 0, 120, 1.0, 0.5, batch, "sgd", 0.001)
        network = training.masked_network(recipe, 10, side).to(device, memory_format=torch.channels_last)
        optimiser = torch.optim.SGD(network.parameters(), 0.001, momentum=0.9)
        x = torch.rand(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
        s, t = (
            torch.rand(batch, side, side, device=device),
            torch.zeros(batch, dtype=torch.long, device=device),
        )

        def step(network=network, optimiser=optimiser, x=x, s=s, t=t) -> None:
            optimiser.zero_grad(set_to_none=True)
            cross_entropy(network(x, s), t).backward()
            optimiser.step()

        def test(network=network, x=x, s=s) -> None:
            training.predictions(network, x, s)

        with FlopCounterMode(display=False) as trained:
            step()
        with FlopCounterMode(display=False) as tested:
            test()
        network.train()
        taken = _median_seconds(step, device, repeats)
        floor = sum(_median_seconds(layer, device, repeats) for layer in _bare_layers(network, x, s))
        tested_in = _median_seconds(test, device, repeats)
        steps, tests = STL10["train"] / batch * STL10["epochs"], STL10["test"] / batch * STL10["epochs"]
        flop = steps * trained.get_total_flops() + tests * tested.get_total_flops()
        run = steps * taken + tests * tested_in
        rows.append((name, taken, floor, taken / floor, tested_in, run, flop / 1e15))
    return pd.DataFrame(rows, columns=["network", "step", "floor", "ratio", "test", "run", "petaflop"])


def shallow_step_cost(
    device: torch.device, batch: int = 128, width: float = 1.0, hidden: int | None = None, repeats: int = 3
) -> pd.DataFrame:
    """What a training step of paper 2's network costs against what it cannot do without.

    A row a network, "exact" (the paper's, with SGD) and "short" (the one that starts at the mean map, with
    AdamW): step (seconds of a training step), floor (seconds of its convolutions and matrix products alone,
    forward and backward, in the step's precision), optimiser (seconds of the optimiser's update alone) and
    ratio (step over floor and optimiser). All are timed in the same call. ``width`` multiplies the maps of
    each network's convolutions, ``hidden`` replaces the size of its first full layer.
    """
    rng = np.random.default_rng(0)
    side, map_side = shallow_cnn.INPUT_SIZE, shallow_cnn.MAP_SIZE
    pairs = saliency_training.Pairs(
        rng.integers(256, size=(batch, side, side, 3), dtype=np.uint8),
        rng.random((batch, map_side, map_side), dtype=np.float32),
    )
    images, targets = saliency_training._on_device(pairs, device, flips=False)
    rows = []
    for name, recipe_name in SHALLOW.items():
        recipe = saliency_training.RECIPES[recipe_name]
        recipe = replace(recipe, width=width * recipe.width, hidden=hidden or recipe.hidden, batch=batch)
        network = saliency_training.untrained(recipe, pairs).to(device)
        optimiser = saliency_training._optimiser(network, recipe)
        step = partial(saliency_training.training_step, network, optimiser, recipe, images, targets)
        taken = _median_seconds(step, device, repeats)
        update = _median_seconds(optimiser.step, device, repeats)  # the last step left its gradients
        context = partial(mixed_precision, device)
        layers = _bare_layers(network, saliency_training._floats(images), context=context)
        floor = sum(_median_seconds(layer, device, repeats) for layer in layers)
        rows.append((name, taken, floor, update, taken / (floor + update)))
    return pd.DataFrame(rows, columns=["network", "step", "floor", "optimiser", "ratio"])


def licnn_cost(
    device: torch.device,
    names: Sequence[str] = ("efficientnet_lite0", "vgg16"),
    count: int = 4,
    size: int = 224,
    repeats: int = 3,
) -> pd.DataFrame:
    """What a top-5 saliency map of ``licnn.LICNN`` costs against the passes that it cannot do without.

    A row a network (VGG-16 with random weights), all of it for ``count`` random images of ``size`` pixels:
    seconds (of ``saliency_maps``), floor (one forward pass with its graph, five backward passes to the
    activations, five plain forward passes, each timed alone), ratio, inhibition (share of the seconds that
    equations 3 and 4 take), released (seconds of the released code's way: one image at a time and five
    times forward, backward with the gradients of all weights, masked forward) and times_faster. The parts
    take turns ``repeats`` times in one call; medians.
    """
    rows = []
    for name in names:
        model = _classifier(name, size).to(device)
        images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        explainer = licnn.LICNN(model)
        parts = _bare_passes(model, images) | {
            "whole": partial(explainer.saliency_maps, images),
            "released": partial(_released_way, explainer, images),
        }
        with torch.no_grad():
            max_c = explainer._max_c(images, None, 5)
        parts["inhibition"] = partial(explainer._gates, max_c)
        seconds = _median_seconds_in_turn(parts, device, repeats)
        floor = seconds["graph"] + 5 * seconds["backward"] + 5 * seconds["forward"]
        whole, released = seconds["whole"], seconds["released"]
        share = seconds["inhibition"] / whole
        rows.append((name, count, whole, floor, whole / floor, share, released, released / whole))
    columns = ["network", "images", "seconds", "floor", "ratio", "inhibition", "released", "times_faster"]
    return pd.DataFrame(rows, columns=columns)


def precision_effect(device: torch.device, seeds: int = 6) -> pd.DataFrame:
    """bfloat16 against float32 on cluttered digits of 32 pixels, paired by seed.

    A row a network: float32 and bfloat16 (accuracy after the last epoch, %), points (their difference) with
    its 95 % interval (low, high), time (bfloat16's seconds as a share of float32's).
    """
    digits = cluttered_digits(1000), cluttered_digits(500, split="test")
    material = digit_material(*digits, ["plain"], shrink=3)
    rows = []
    for name, width, rate, epochs in (("alexnet", 0.25, 0.001, 8), ("nin", 0.125, 0.005, 16)):
        base = Recipe(name, "plain", 0, epochs, width, 0.0, 16, "adamw", rate)
        accuracies, seconds = {}, {}
        for precision in training.PRECISIONS:
            recipes = [replace(base, seed=seed, precision=precision) for seed in range(seeds)]
            for recipe in recipes:
                training.checkpoint_path(recipe, material, device).unlink(missing_ok=True)
            start = time.perf_counter()
            log = training.runs(recipes, material, device)
            seconds[precision] = time.perf_counter() - start
            accuracies[precision] = log.query("epoch == @epochs").set_index("seed")["accuracy"]
        found = stats.paired_difference(accuracies["bfloat16"], accuracies["float32"])
        means = [accuracies[precision].mean() for precision in training.PRECISIONS]
        ratio = seconds["bfloat16"] / seconds["float32"]
        rows.append((name, *means, found.value, found.low, found.high, ratio))
    columns = ["network", *training.PRECISIONS, "points", "low", "high", "time"]
    return pd.DataFrame(rows, columns=columns)


def _classifier(name: str, size: int) -> nn.Module:
    """A classifier to be timed: its weights matter to nobody, so VGG-16 need not be downloaded."""
    if name in classifiers.EFFICIENTNET_LITE:
        return classifiers.load_classifier(name)
    torch.manual_seed(0)
    preprocess = classifiers.Preprocess(side=size, crop=size)
    return classifiers.as_classifier(torchvision.models.get_model(name), preprocess)


def _bare_passes(model: nn.Module, images: torch.Tensor) -> dict[str, Callable[[], object]]:
    """A forward pass that keeps its graph, a backward pass down to the first ReLU's feature map (the others
    lie on its way), a plain forward pass."""
    activations: list[torch.Tensor] = []

    def graph() -> torch.Tensor:
        with licnn._frozen(model):
            return model(images.detach().requires_grad_())

    def record(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        if licnn.is_feature_map(output):
            activations.append(output)

    with licnn._hooked(model, record):
        score = graph().softmax(1)[:, 0].sum()
    return {
        "graph": graph,
        "backward": lambda: torch.autograd.grad(score, activations[0], retain_graph=True),
        "forward": torch.no_grad()(partial(model, images)),
    }


def _released_way(explainer: licnn.LICNN, images: torch.Tensor) -> None:
    """Saliency maps of the five likeliest classes as the released code computes them."""
    model = explainer.model
    parameters = list(model.parameters())
    for image in images.split(1):
        with torch.no_grad():
            classes = model(image).topk(5).indices[0]
        for target in classes:
            activations: list[torch.Tensor] = []

            def record(module: nn.Module, inputs: object, output: torch.Tensor, kept=activations) -> None:
                if licnn.is_feature_map(output):
                    kept.append(output)

            with licnn._hooked(model, record):
                score = model(image).softmax(1)[0, target]
            gradients = torch.autograd.grad(score, [*activations, *parameters])[: len(activations)]
            max_c = [licnn.l2_normalised(gradient.amax(1, keepdim=True)) for gradient in gradients]
            explainer._summed(explainer._masked_responses(image, explainer._gates(max_c)), image.shape[-2:])


def _smooth_maps(count: int, shape: tuple[int, int]) -> np.ndarray:
    """Random maps (count, H, W) float32: coarse noise, enlarged smoothly."""
    coarse = torch.rand(count, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    return interpolate(coarse, shape, mode="bicubic")[:, 0].numpy()


def _published_area(
    map: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    others: Sequence[Points] | None,
    splits: int,
    step: float,
    rng: np.random.Generator,
) -> float:
    """AUC-Borji (``others`` None) or shuffled AUC, split by split and threshold by threshold as published.

    Fixations are whole pixels; the other arguments are those of ``metrics.auc_shuffled``.
    """
    scaled = (map - map.min()) / (map.max() - map.min())
    positives = scaled[y, x]
    pool = scaled.ravel() if others is None else np.concatenate([scaled[v, u] for u, v in others])
    size = len(x) if others is None else min(len(x), len(pool))
    areas = []
    for _ in range(splits):
        negatives = rng.choice(pool, size, replace=others is None)
        thresholds = np.arange(0, max(positives.max(), negatives.max()) + 1e-9, step)[::-1]
        hits = [0, *((positives >= threshold).mean() for threshold in thresholds), 1]
        alarms = [0, *((negatives >= threshold).mean() for threshold in thresholds), 1]
        areas.append(np.trapezoid(hits, alarms))
    return float(np.mean(areas))


def _pysaliency_areas() -> Callable[..., float] | None:
    """pysaliency's area of (map, x, y, others), already compiled; None where it is not installed."""
    try:
        from pysaliency.roc import general_rocs_per_positive
    except ImportError:
        return None

    def area(map: np.ndarray, x: np.ndarray, y: np.ndarray, others: Sequence[Points] | None) -> float:
        pool = map.ravel() if others is None else np.concatenate([map[v, u] for u, v in others])
        return general_rocs_per_positive(map[y, x].astype(float), pool.astype(float)).mean()

    area(np.eye(2), np.zeros(1, int), np.zeros(1, int), None)
    return area


def _bare_layers(
    network: nn.Module, *given: torch.Tensor, context: Callable[[], AbstractContextManager] = nullcontext
) -> list[Callable[[], None]]:
    """Calls that do the convolutions and matrix products of a training step, and nothing else of it.

    ``given`` is what the network takes; forward passes run within ``context()``. A call does all that one
    layer does in a step, on the parts of the batch that the network gives it, and replaces its gradients.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    inputs: dict[nn.Module, list[torch.Tensor]] = {layer: [] for layer in layers}
    handles = [
        layer.register_forward_hook(lambda module, given, _: inputs[module].append(given[0].detach()))
        for layer in layers
    ]
    with torch.no_grad(), context():
        network(*given)
    for handle in handles:
        handle.remove()

    def bare(layer: nn.Module) -> Callable[[], None]:
        parts = [
            part.requires_grad_(layer is not layers[0]) for part in inputs[layer]
        ]  # the image needs none
        with context():
            upstream = [torch.ones_like(layer(part)) for part in parts]

        def call() -> None:
            for tensor in (*parts, *layer.parameters()):
                tensor.grad = None
            for part, gradient in zip(parts, upstream, strict=True):
                with context():
                    answer = layer(part)
                answer.backward(gradient)

        return call

    return [bare(layer) for layer in layers]


def _median_seconds(call: Callable[[], None], device: torch.device, repeats: int) -> float:
    call()
    return float(np.median([_synchronised_seconds(call, device) for _ in range(repeats)]))


def _synchronised_seconds(call: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _median_seconds_in_turn(
    calls: dict[str, Callable[[], object]], device: torch.device, repeats: int
) -> dict[str, float]:
    """Median seconds of every call; they take turns, so that a change of the machine's pace meets them all.

    Every timed call follows an untimed one of its own, since the first pays for memory that others had.
    """
    rounds = [
        {name: _median_seconds(call, device, 1) for name, call in calls.items()} for _ in range(repeats)
    ]
    return {name: float(np.median([seconds[name] for seconds in rounds])) for name in calls}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(arguments: list[str]) -> None:
    """Print one benchmark's table."""
    parser = argparse.ArgumentParser(prog="python -m saliencylib.benchmarks")
    parser.add_argument("what", choices=("maps", "metrics", "training", "shallow", "precision", "licnn"))
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (for trainings and licnn)"
    )
    options = parser.parse_args(arguments)
    device = profiles.device_named(options.device)
    calls = {
        "maps": maps_per_second,
        "metrics": metric_speed,
        "training": lambda: training_cost(device),
        "shallow": lambda: shallow_step_cost(device),
        "licnn": lambda: licnn_cost(device),
        "precision": lambda: precision_effect(device),
    }
    table = calls[options.what]()
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1:])
