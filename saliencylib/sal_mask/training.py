"""Training of the masked classifiers (paper 1): paired seeds, exact resumption, test after every epoch."""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad

from saliencylib.study import cache, checkpoints
from saliencylib.sal_mask.experiment import network as models
from saliencylib.data import Labelled
from saliencylib.sal_mask.network import SalMask
from saliencylib.study.parallel import side_by_side

PRECISIONS = ("float32", "bfloat16")
KEYS = ["network", "width", "connection", "mask", "seed"]  # the columns that name a training
COLUMNS = ["epoch", "loss", "accuracy", "accuracy_even", "accuracy_odd"]
CROP_MARGIN = 4  # pixels on each side, for random crops


@dataclass(frozen=True)
class Recipe:
    """How one masked classifier is trained.

    ``mask`` names the maps among those of the ``Material``, ``connection`` (one of ``models.CONNECTIONS``)
    where they go. ``optimiser`` is "sgd" (the paper's: momentum 0.9, learning rate divided by 10 at each
    third of the epochs, weight decay 0.0005 as a choice) or "adamw" (the declared optimiser of the short
    schedule, the learning rate falling along a cosine). ``precision`` "bfloat16" is autocast, slower than
    "float32" where the device does not have it natively. ``augment`` adds random flips and crops of image and
    map together; the paper has none.
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
    connection: str = "first"
    precision: str = "float32"
    augment: bool = False


@dataclass(frozen=True)
class Material:
    """Images to train and to test on, and by name the masks' maps of both, (N, H, W) in [0, 1] each."""

    train: Labelled
    test: Labelled
    maps: dict[str, tuple[np.ndarray, np.ndarray]]

    def arrays(self, mask: str) -> tuple[np.ndarray, ...]:
        """Everything of the material that a training with this mask depends on."""
        train, test = self.train, self.test
        train_maps, test_maps = self.maps[mask]
        return train.images, train.labels, train_maps, test.images, test.labels, test_maps


def learning_rates(recipe: Recipe) -> list[float]:
    """The learning rate of every epoch (section 4.1: divided by 10 every 40 of 120 epochs)."""
    share = [epoch / recipe.epochs for epoch in range(recipe.epochs)]
    if recipe.optimiser == "sgd":
        return [recipe.learning_rate * 0.1 ** math.floor(3 * s) for s in share]
    return [recipe.learning_rate * (1 + math.cos(math.pi * s)) / 2 for s in share]


def masked_network(recipe: Recipe, classes: int, size: int) -> SalMask:
    """The recipe's network with He weights that depend on the seed only, so that masks share their start."""
    torch.manual_seed(recipe.seed)
    plain = models.NETWORKS[recipe.network](classes, recipe.width, size, recipe.dropout)
    plain.apply(_he_weights)
    network = models.connected(plain, recipe.connection)
    if isinstance(network, models.LearnedMask):
        network.branch.apply(_he_weights)
    return network


def accuracy_per_epoch(recipe: Recipe, material: Material, device: torch.device) -> pd.DataFrame:
    """Train one network; a row an epoch.

    Columns: epoch, loss (mean cross-entropy in nats), accuracy (test, %), accuracy_even and accuracy_odd (on
    the test images of even and of odd number, so that an epoch can be chosen on one half and judged on the
    other). After every epoch the state is saved in the cache; a second call, also one after an interruption,
    continues there and gives the same numbers as an uninterrupted one.
    """
    return _trained(recipe, material, device)[1]


def checkpoint_path(recipe: Recipe, material: Material, device: torch.device) -> Path:
    """Where a training keeps its state: named by everything that its numbers depend on."""
    if recipe.precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {recipe.precision!r}")
    sources = (sys.modules[__name__], models, checkpoints)
    arrays = material.arrays(recipe.mask)
    name = cache.key(asdict(recipe), device.type, torch.__version__, *sources, *arrays)
    place = cache.CACHE / "sal_mask" / f"{recipe.network}-{recipe.connection}-{recipe.mask}-{recipe.seed}"
    return place.with_name(f"{place.name}-{name}.safetensors")


def runs(recipes: Sequence[Recipe], material: Material, device: torch.device) -> pd.DataFrame:
    """Train every recipe; rows network, width, connection, mask, seed, epoch, loss and the accuracies.

    On the CPU the trainings share the cores, one thread each (or whatever joblib back end is active); on a
    GPU they follow one another. A training that is finished is read back.
    """
    return _for_each(recipes, _log_of, material, device)


def accuracy_elsewhere(
    recipes: Sequence[Recipe], material: Material, others: dict[str, Material], device: torch.device
) -> pd.DataFrame:
    """Accuracy (%) of every recipe's network, trained on ``material``, on the test images of other materials.

    Each material has maps for the recipe's mask. Rows: the columns of ``KEYS``, images (the name in
    ``others``), accuracy. Networks that are not trained yet are trained first.
    """
    return _for_each(recipes, _accuracy_on, material, device, others)


def trained(recipe: Recipe, material: Material, device: torch.device) -> SalMask:
    """The network of a recipe after its last epoch, in eval mode."""
    return _trained(recipe, material, device)[0].eval()


@torch.no_grad()
def predictions(network: SalMask, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
    """The most probable class (N,) of normalised images (N, 3, H, W) with saliency maps (N, H, W)."""
    network.eval()
    part = 50 if images.device.type == "cpu" else 1000  # on a CPU what fits its cache is twice as fast
    parts = zip(images.split(part), saliency.split(part), strict=True)
    return torch.cat([network(x, s).argmax(1) for x, s in parts])


def augmented(
    images: torch.Tensor, saliency: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 3, H, W) and maps (N, H, W), flipped at random and cropped at random after padding by 4.

    The map is a fourth channel of its image, so it follows through everything.
    """
    both = torch.cat([images, saliency.unsqueeze(1)], 1)
    count, _, height, width = both.shape
    flip = torch.rand(count, generator=generator) < 0.5
    both = torch.where(flip.to(both.device)[:, None, None, None], both.flip(3), both)
    both = pad(both, (CROP_MARGIN,) * 4)
    down, right = torch.randint(2 * CROP_MARGIN + 1, (2, count), generator=generator).tolist()
    both = torch.stack(
        [part[:, y : y + height, x : x + width] for part, y, x in zip(both, down, right, strict=True)]
    )
    return both[:, :3], both[:, 3]


def normalised(images: np.ndarray, of: np.ndarray, device: torch.device) -> torch.Tensor:
    """Images (N, H, W, 3) uint8 as (N, 3, H, W), by channel means and deviations of the images ``of``."""
    pixels = of[::4].reshape(-1, 3).astype(np.float64) / 255
    mean = pixels.mean(0).astype(np.float32)
    deviation = np.maximum(pixels.std(0), 1 / 255).astype(np.float32)  # one colour must not divide by zero
    x = torch.from_numpy((images.astype(np.float32) / 255 - mean) / deviation).permute(0, 3, 1, 2)
    return x.to(device, memory_format=torch.channels_last)


def _trained(recipe: Recipe, material: Material, device: torch.device) -> tuple[SalMask, pd.DataFrame]:
    train, test = material.train, material.test
    path = checkpoint_path(recipe, material, device)
    network = masked_network(recipe, len(train.classes), train.images.shape[1])
    network = network.to(device, memory_format=torch.channels_last)
    optimiser = _optimiser(recipe, network)
    done, log = checkpoints.restore(path, network, optimiser)
    if done < recipe.epochs:
        train_maps, test_maps = material.maps[recipe.mask]
        train_set = _on_device(train, train_maps, train.images, device)
        *test_set, truth = _on_device(test, test_maps, train.images, device)
    for epoch in range(done, recipe.epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rates(recipe)[epoch]
        loss = _train_one_epoch(network, optimiser, *train_set, recipe, epoch)
        right = 100 * (predictions(network, *test_set) == truth).double()
        row = {
            "loss": loss,
            "accuracy": right.mean(),
            "accuracy_even": right[::2].mean(),
            "accuracy_odd": right[1::2].mean(),
        }
        for name, value in row.items():
            log.setdefault(name, []).append(float(value))
        to_go_on = optimiser if epoch + 1 < recipe.epochs else None
        checkpoints.save(path, network, to_go_on, epoch + 1, log)
    return network, pd.DataFrame({"epoch": range(1, recipe.epochs + 1)} | log)[COLUMNS]


def _for_each(recipes, work, material: Material, device: torch.device, *more: object) -> pd.DataFrame:
    """``work(recipe, material, device, *more)`` for every recipe, its rows marked with the recipe's keys.

    A worker is sent only the maps of its own mask.
    """
    if not recipes:
        raise ValueError("no recipe to train")
    jobs = [(recipe, *(_only(part, recipe.mask) for part in (material, device, *more))) for recipe in recipes]
    found = side_by_side(work, jobs, device)
    marks = [{key: asdict(recipe)[key] for key in KEYS} for recipe in recipes]
    frames = [rows.assign(**mark) for rows, mark in zip(found, marks, strict=True)]
    joined = pd.concat(frames, ignore_index=True)
    return joined[KEYS + [column for column in joined if column not in KEYS]]


def _only(part: object, mask: str) -> object:
    """A material, or a dictionary of materials, with the maps of one mask; anything else as it is."""
    if isinstance(part, Material):
        return Material(part.train, part.test, {mask: part.maps[mask]})
    if isinstance(part, dict):
        return {name: _only(value, mask) for name, value in part.items()}
    return part


def _log_of(recipe: Recipe, material: Material, device: torch.device) -> pd.DataFrame:
    return _trained(recipe, material, device)[1]


def _accuracy_on(
    recipe: Recipe, material: Material, device: torch.device, others: dict[str, Material]
) -> pd.DataFrame:
    network = trained(recipe, material, device)
    rows = []
    for name, other in others.items():
        maps = other.maps[recipe.mask][1]
        *images, truth = _on_device(other.test, maps, material.train.images, device)
        rows.append((name, 100 * float((predictions(network, *images) == truth).double().mean())))
    return pd.DataFrame(rows, columns=["images", "accuracy"])


def _train_one_epoch(network, optimiser, x, s, t, recipe: Recipe, epoch: int) -> float:
    """One pass in an order, and with dropout, that depend on seed and epoch only; the mean loss."""
    network.train()
    generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
    order = torch.randperm(len(t), generator=generator).to(t.device)
    torch.manual_seed(recipe.seed * 100_003 + epoch)
    total = torch.zeros((), device=t.device)
    for batch in order.split(recipe.batch):
        images, saliency = x[batch], s[batch]
        if recipe.augment:
            images, saliency = augmented(images, saliency, generator)
        with torch.autocast(t.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss = cross_entropy(network(images, saliency), t[batch])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(batch)
    return float(total) / len(t)


def _he_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


def _optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), recipe.learning_rate, momentum=0.9, weight_decay=0.0005)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(network.parameters(), recipe.learning_rate)
    raise ValueError(f"optimiser must be 'sgd' or 'adamw', not {recipe.optimiser!r}")


def _on_device(
    labelled: Labelled, maps: np.ndarray, normalise_by: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalised images (N, 3, H, W), maps (N, H, W) and labels (N,), whole sets at once."""
    if maps.shape != labelled.images.shape[:3]:
        raise ValueError(f"maps of shape {maps.shape} do not fit images of shape {labelled.images.shape}")
    if not np.isfinite(maps).all():
        raise ValueError(f"{int((~np.isfinite(maps)).any((1, 2)).sum())} of {len(maps)} maps hold NaN")
    x = normalised(labelled.images, normalise_by, device)
    s = torch.from_numpy(maps.astype(np.float32)).to(device)
    return x, s, torch.from_numpy(labelled.labels).to(device)
