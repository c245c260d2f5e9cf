"""How fast the parts are on this machine: ``python -m saliencylib.benchmarks maps`` (or training, precision).

Everything is timed on embedded data, so that any machine can be compared with any other.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from saliencylib import models, profiles, saliency, stats, training
from saliencylib.digits import cluttered_digits
from saliencylib.sal_mask import digit_material
from saliencylib.training import Recipe

STL10 = {"train": 5000, "test": 8000, "epochs": 120}  # one run of the paper


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


def _bare_layers(network: nn.Module, x: torch.Tensor, s: torch.Tensor) -> list[Callable[[], None]]:
    """Calls that do the convolutions and matrix products of a training step, and nothing else of it."""
    inputs: dict[nn.Module, torch.Tensor] = {}
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [
        layer.register_forward_hook(lambda module, given, _: inputs.update({module: given[0].detach()}))
        for layer in layers
    ]
    with torch.no_grad():
        network(x, s)
    for handle in handles:
        handle.remove()

    def bare(layer: nn.Module) -> Callable[[], None]:
        given = inputs[layer].requires_grad_(layer is not layers[0])  # the image needs no gradient
        upstream = torch.ones_like(layer(given))
        return lambda: layer(given).backward(upstream)

    return [bare(layer) for layer in layers]


def _median_seconds(call: Callable[[], None], device: torch.device, repeats: int) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


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
    parser.add_argument("what", choices=("maps", "training", "precision"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (for the trainings)")
    options = parser.parse_args(arguments)
    device = profiles.device_named(options.device)
    calls = {
        "maps": maps_per_second,
        "training": lambda: training_cost(device),
        "precision": lambda: precision_effect(device),
    }
    table = calls[options.what]()
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1:])
