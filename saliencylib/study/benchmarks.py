"""How fast the parts are on this machine: ``python -m saliencylib.study.benchmarks maps`` (or metrics, ...).

Everything is timed on embedded or random data, so that any machine can be compared with any other. Aims on
two cores: 100 RC maps a second, AUC-Borji of 500 maps within 10 seconds, LICNN within 1.25 times its floor.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from unittest import mock

import numpy as np
import timm
import torch
import torchvision
from torch.nn.functional import interpolate

from saliencylib import metrics, saliency
from saliencylib.digits import cluttered_digits
from saliencylib.licnn.activations import relu_hooks
from saliencylib.licnn.classifiers import as_classifier
from saliencylib.licnn.method import LICNN
from saliencylib.shallow_cnn import training
from saliencylib.shallow_cnn.network import MAP_SIZE
from saliencylib.study.session import device_named

PRINTED_STEPS = 157_000  # of paper 2's training
CPU = torch.device("cpu")


def map_speed(count: int = 600) -> dict[str, float]:
    """RC maps of 96x96 pixels a second, computed and then read back."""
    images = cluttered_digits(count).images
    call = partial(saliency.map_stack, images, "rc")
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, SALIENCY_CACHE=folder):
        saliency.map_stack(images[-40:], "rc")  # starts the worker processes, loads compiled code
        return {"computed": count / _seconds(call), "read back": count / _seconds(call)}


def metric_speed(
    count: int = 500, shape: tuple[int, int] = (480, 640), splits: int = 100, looped: int = 5
) -> dict[str, float]:
    """AUC-Borji of ``count`` maps with 60 fixations each: seconds of ``metrics.score``, seconds of the
    published loop (from ``looped`` maps), and their ratio."""
    rng = np.random.default_rng(0)
    coarse = torch.rand(count, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    maps = interpolate(coarse, shape, mode="bicubic")[:, 0].numpy()
    points = [(rng.integers(shape[1], size=60), rng.integers(shape[0], size=60)) for _ in maps]
    ours = _seconds(partial(metrics.score, maps, points, metrics=("auc_borji",), splits=splits))
    some = zip(maps[:looped], points, strict=False)
    loop = sum(_seconds(partial(published_auc_borji, m, *p, splits, 0.1, rng)) for m, p in some)
    loop *= count / looped
    return {"seconds": ours, "published loop": loop, "times as fast": loop / ours}


def published_auc_borji(
    map: np.ndarray, x: np.ndarray, y: np.ndarray, splits: int, step: float, rng: np.random.Generator
) -> float:
    """AUC-Borji of a map (H, W), split by split and threshold by threshold as in the published code."""
    scaled = (map - map.min()) / (map.max() - map.min())
    positives, areas = scaled[y, x], []
    for _ in range(splits):
        negatives = rng.choice(scaled.ravel(), len(x))
        thresholds = np.arange(0, max(positives.max(), negatives.max()) + 1e-9, step)[::-1]
        hits = [0, *((positives >= threshold).mean() for threshold in thresholds), 1]
        alarms = [0, *((negatives >= threshold).mean() for threshold in thresholds), 1]
        areas.append(np.trapezoid(hits, alarms))
    return float(np.mean(areas))


def gaze_step_speed(
    device: torch.device = CPU, batch: int = 128, repeats: int = 3, **changes: object
) -> dict[str, float]:
    """A training step of paper 2's network as printed: its seconds, and the minutes that the paper's
    steps would take. ``changes`` are of the recipe."""
    images = cluttered_digits(batch).images
    targets = np.random.default_rng(0).random((batch, MAP_SIZE, MAP_SIZE), dtype=np.float32)
    pairs = training.GazePairs(images, targets)
    recipe = replace(training.GAZE_RECIPES["as printed"], batch=batch, **changes)
    model = training.untrained_gaze_network(recipe, pairs).to(device)
    optimiser = training.gaze_optimiser(model, recipe)
    given = training.on_device(pairs, device, flips=False)
    step = partial(training.gaze_training_step, model, optimiser, recipe, *given)
    seconds = _median_seconds({"step": step}, device, repeats)["step"]
    return {"seconds": seconds, "minutes of the paper's training": seconds * PRINTED_STEPS / 60}


def licnn_speed(
    device: torch.device = CPU, name: str = "vgg16", count: int = 4, size: int = 224, repeats: int = 3
) -> dict[str, float]:
    """LICNN's top-5 saliency maps of ``count`` random images by a network with random weights, against what
    they cannot do without: a forward pass with its graph, five backward passes to the first activation and
    five plain forward passes.

    Seconds, the floor's seconds and their ratio; of the seconds above the floor: gates (the inhibition of all
    maps) and summing (resizing and adding up the responses); what is left are the hooks, which take the
    maximum and the sum over channels and mask the feature maps.
    """
    torch.manual_seed(0)
    known = name in torchvision.models.list_models(module=torchvision.models)
    model = as_classifier(torchvision.models.get_model(name) if known else timm.create_model(name))
    model = model.to(device)
    images = torch.rand(count, 3, size, size).to(device).contiguous(memory_format=torch.channels_last)
    model.requires_grad_(False)
    activations: list[torch.Tensor] = []
    graph = partial(model, images.clone().requires_grad_())
    with relu_hooks(model, lambda module, given, output: activations.append(output)):
        score = graph().softmax(1)[:, 0].sum()
    explainer = LICNN(model)
    _, max_c, _, responses = explainer._attention(images, None, 5)
    calls = {
        "whole": partial(explainer.saliency_maps, images),
        "graph": graph,
        "backward": partial(torch.autograd.grad, score, activations[0], retain_graph=True),
        "forward": torch.no_grad()(partial(model, images)),
        "gates": partial(explainer._gates, max_c),
        "summing": partial(explainer._summed, responses, images.shape[-2:]),
    }
    seconds = _median_seconds(calls, device, repeats)
    floor = seconds["graph"] + 5 * seconds["backward"] + 5 * seconds["forward"]
    found = {"seconds": seconds["whole"], "floor": floor, "ratio": seconds["whole"] / floor}
    return found | {part: seconds[part] for part in ("gates", "summing")}


def licnn_speeds(device: torch.device = CPU) -> dict[str, float]:
    """``licnn_speed`` of three networks for batches of 4 and 8."""
    return {
        f"{name}, {count} images, {part}": value
        for name in ("squeezenet1_1", "tf_efficientnet_lite0", "vgg16")
        for count in (4, 8)
        for part, value in licnn_speed(device, name, count).items()
    }


def _median_seconds(
    calls: dict[str, Callable[[], object]], device: torch.device, repeats: int
) -> dict[str, float]:
    """Median seconds of every call; they take turns, so that a change of pace meets them all."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            call()  # the first pays for memory that others had
            times[name].append(_seconds(call, device))
    return {name: float(np.median(values)) for name, values in times.items()}


def _seconds(call: Callable[[], object], device: torch.device = CPU) -> float:
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else float
    wait()
    began = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - began


BENCHMARKS = {
    "maps": lambda device: map_speed(),
    "metrics": lambda device: metric_speed(),
    "shallow": gaze_step_speed,
    "licnn": licnn_speeds,
}


def main(arguments: list[str]) -> None:
    """Print one benchmark's numbers."""
    parser = argparse.ArgumentParser(prog="python -m saliencylib.study.benchmarks")
    parser.add_argument("what", choices=BENCHMARKS)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (shallow and licnn)")
    options = parser.parse_args(arguments)
    for name, value in BENCHMARKS[options.what](device_named(options.device)).items():
        print(f"{name}: {value:.3g}")


if __name__ == "__main__":
    main(sys.argv[1:])
