"""Training of the masked classifiers (paper 1): paired seeds, exact resumption, test after every epoch.

In float32 throughout: in bfloat16 the narrow NIN left chance level later (17 against 28 % accuracy after
1,000 steps on cluttered digits, one seed) and was hardly faster.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import nn
from torch.nn.functional import cross_entropy

from saliencylib import cache, checkpoints, models
from saliencylib.data import Labelled
from saliencylib.models import SalMask

NETWORKS = {
    "alexnet": models.alexnet,
    "nin": lambda classes, width, size, dropout: models.nin(classes, width, dropout),
}


@dataclass(frozen=True)
class Recipe:
    """How one masked classifier is trained.

    ``mask`` only names the maps that come with the images. ``optimiser`` is "sgd" (the paper's: momentum 0.9,
    learning rate divided by 10 at each third of the epochs, weight decay 0.0005 as a choice) or "adamw" (the
    declared optimiser of the short schedule, the learning rate falling along a cosine).
    """

    network: str
    mask: str
    seed: int
    epochs: int
    width: float
    dropout: float
    batch: int
    optimiser: str
    learning_rate: float


def learning_rates(recipe: Recipe) -> list[float]:
    """The learning rate of every epoch (section 4.1: divided by 10 every 40 of 120 epochs)."""
    share = [epoch / recipe.epochs for epoch in range(recipe.epochs)]
    if recipe.optimiser == "sgd":
        return [recipe.learning_rate * 0.1 ** math.floor(3 * s) for s in share]
    return [recipe.learning_rate * (1 + math.cos(math.pi * s)) / 2 for s in share]


def masked_network(recipe: Recipe, classes: int, size: int) -> SalMask:
    """The recipe's network with He weights that depend on the seed only, so that masks share their start."""
    torch.manual_seed(recipe.seed)
    plain = NETWORKS[recipe.network](classes, recipe.width, size, recipe.dropout)
    for module in plain.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return SalMask(plain.first, plain.rest)


def accuracy_per_epoch(
    recipe: Recipe,
    train: Labelled,
    train_maps: np.ndarray,
    test: Labelled,
    test_maps: np.ndarray,
    device: torch.device,
) -> pd.DataFrame:
    """Train one network; a row an epoch: epoch, loss (mean cross-entropy in nats), accuracy (test, %).

    Maps are (N, H, W) in [0, 1] beside the images. After every epoch the state is saved in the cache; a
    second call, also one after an interruption, continues there and gives the same numbers as an
    uninterrupted one.
    """
    arrays = (train.images, train.labels, train_maps, test.images, test.labels, test_maps)
    path = checkpoint_path(recipe, device, *arrays)
    network = masked_network(recipe, len(train.classes), train.images.shape[1])
    network = network.to(device, memory_format=torch.channels_last)
    optimiser = _optimiser(recipe, network)
    done, log = checkpoints.restore(path, network, optimiser)
    if done < recipe.epochs:
        mean, deviation = _channel_statistics(train.images)
        x, s, t = _on_device(train, train_maps, mean, deviation, device)
        test_x, test_s, test_t = _on_device(test, test_maps, mean, deviation, device)
    for epoch in range(done, recipe.epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rates(recipe)[epoch]
        loss = _train_one_epoch(network, optimiser, x, s, t, recipe, epoch)
        accuracy = 100 * float((predictions(network, test_x, test_s) == test_t).float().mean())
        log.setdefault("loss", []).append(loss)
        log.setdefault("accuracy", []).append(accuracy)
        checkpoints.save(path, network, optimiser, epoch + 1, log)
    epochs = range(1, recipe.epochs + 1)
    return pd.DataFrame({"epoch": epochs, "loss": log["loss"], "accuracy": log["accuracy"]})


def checkpoint_path(recipe: Recipe, device: torch.device, *arrays: np.ndarray) -> Path:
    """Where a training keeps its state: named by everything that its numbers depend on."""
    sources = (sys.modules[__name__], models, checkpoints)
    name = cache.key(asdict(recipe), device.type, torch.__version__, *sources, *arrays)
    return cache.CACHE / "sal_mask" / f"{recipe.network}-{recipe.mask}-{recipe.seed}-{name}.safetensors"


def runs(
    base: Recipe,
    masks: dict[str, tuple[np.ndarray, np.ndarray]],
    seeds: Sequence[int],
    train: Labelled,
    test: Labelled,
    device: torch.device,
) -> pd.DataFrame:
    """Train ``base`` once for every mask and seed; rows network, mask, seed, epoch, loss, accuracy.

    ``masks`` maps a name to the maps of the training and of the test images. On the CPU the trainings share
    the cores, one thread each (or whatever joblib back end is active); on a GPU they follow one another.
    """
    jobs = [(replace(base, mask=mask, seed=seed), *maps) for seed in seeds for mask, maps in masks.items()]
    workers = 1 if device.type == "cuda" else min(len(jobs), torch.get_num_threads())
    with Parallel(n_jobs=workers, max_nbytes="1M") as parallel:
        logs = parallel(
            delayed(_one_thread_run)(recipe, train, train_maps, test, test_maps, device)
            for recipe, train_maps, test_maps in jobs
        )
    named = [
        log.assign(network=recipe.network, mask=recipe.mask, seed=recipe.seed)
        for (recipe, *_), log in zip(jobs, logs, strict=True)
    ]
    columns = ["network", "mask", "seed", "epoch", "loss", "accuracy"]
    return pd.concat(named, ignore_index=True)[columns]


def _one_thread_run(recipe: Recipe, *data_and_device: object) -> pd.DataFrame:
    torch.set_num_threads(1)
    return accuracy_per_epoch(recipe, *data_and_device)


@torch.no_grad()
def predictions(network: SalMask, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
    """The most probable class (N,) of normalised images (N, 3, H, W) with saliency maps (N, H, W)."""
    network.eval()
    parts = zip(images.split(250), saliency.split(250), strict=True)
    return torch.cat([network(x, s).argmax(1) for x, s in parts])


def _train_one_epoch(network, optimiser, x, s, t, recipe: Recipe, epoch: int) -> float:
    """One pass in an order, and with dropout, that depend on seed and epoch only; the mean loss."""
    network.train()
    generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
    order = torch.randperm(len(t), generator=generator).to(t.device)
    torch.manual_seed(recipe.seed * 100_003 + epoch)
    total = torch.zeros((), device=t.device)
    for batch in order.split(recipe.batch):
        loss = cross_entropy(network(x[batch], s[batch]), t[batch])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(batch)
    return float(total) / len(t)


def _optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), recipe.learning_rate, momentum=0.9, weight_decay=0.0005)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(network.parameters(), recipe.learning_rate)
    raise ValueError(f"optimiser must be 'sgd' or 'adamw', not {recipe.optimiser!r}")


def _channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels = images[::4].reshape(-1, 3).astype(np.float64) / 255
    deviation = np.maximum(pixels.std(0), 1 / 255)  # one colour in all images must not divide by zero
    return pixels.mean(0).astype(np.float32), deviation.astype(np.float32)


def _on_device(
    labelled: Labelled, maps: np.ndarray, mean: np.ndarray, deviation: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalised images (N, 3, H, W), maps (N, H, W) and labels (N,), whole sets at once."""
    if maps.shape != labelled.images.shape[:3]:
        raise ValueError(f"maps of shape {maps.shape} do not fit images of shape {labelled.images.shape}")
    if not np.isfinite(maps).all():
        raise ValueError(f"{int((~np.isfinite(maps)).any((1, 2)).sum())} of {len(maps)} maps hold NaN")
    x = torch.from_numpy((labelled.images.astype(np.float32) / 255 - mean) / deviation).permute(0, 3, 1, 2)
    x = x.to(device, memory_format=torch.channels_last)
    return (
        x,
        torch.from_numpy(maps.astype(np.float32)).to(device),
        torch.from_numpy(labelled.labels).to(device),
    )
