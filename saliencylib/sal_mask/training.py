"""Training of the masked classifiers (paper 1): paired seeds, exact resumption, test after every epoch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from saliencylib.sal_mask.network import BUILDERS, LearnedMask, SalMask, connected
from saliencylib.study.keep import Checkpoint, digest, kept, recorded_side_by_side

# The columns that name a training.
RECIPE_KEYS = ["network", "width", "connection", "learning_rate", "per_class", "mask", "seed"]
CURVE_IMAGES = 1000  # test images after every epoch; all are for the last


@dataclass(frozen=True)
class ClassifierRecipe:
    """How one masked classifier is trained.

    ``mask`` names the maps among those of the ``Material``, ``connection`` (one of ``network.CONNECTIONS``)
    where they go. ``optimiser`` is "sgd" (the paper's: momentum 0.9, learning rate divided by 10 at each
    third of the epochs, weight decay 0.0005 as a choice) or "adamw" (the declared optimiser of the short
    schedule, the learning rate falling along a cosine).
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
    per_class: int
    connection: str = "first"


@dataclass(frozen=True, eq=False)
class Material:
    """What networks are trained and tested on.

    Images (N, H, W, 3) uint8, labels (N,) int64 below ``classes``, and for each mask's name its maps of the
    training and of the test images, (N, H, W) in [0, 1].
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    maps: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def only(self, recipes: Iterable[ClassifierRecipe]) -> "Material":
        """The same with the maps that these recipes need, without others."""
        return replace(self, maps={recipe.mask: self.maps[recipe.mask] for recipe in recipes})

    def drawn(self, recipe: ClassifierRecipe) -> "Material":
        """The same with the training images that the recipe draws, and with the maps of its mask alone.

        Raises ValueError when a class has fewer images than are asked for.
        """
        train_maps, test_maps = self.maps[recipe.mask]
        chosen = np.arange(len(self.train_labels))
        if recipe.per_class:
            rng = np.random.default_rng(recipe.seed)
            groups = [np.flatnonzero(self.train_labels == label) for label in range(self.classes)]
            if min(map(len, groups)) < recipe.per_class:
                raise ValueError(f"a class has {min(map(len, groups))} images, fewer than {recipe.per_class}")
            chosen = np.sort(np.concatenate([rng.choice(g, recipe.per_class, replace=False) for g in groups]))
        images, labels = self.train_images[chosen], self.train_labels[chosen]
        maps = {recipe.mask: (train_maps[chosen], test_maps)}
        return replace(self, train_images=images, train_labels=labels, maps=maps)

    def key(self, mask: str) -> str:
        """A name that changes with the images, the labels or the maps of the mask."""
        if mask not in self._keys:
            if not self._keys:
                images = (self.train_images, self.train_labels, self.test_images, self.test_labels)
                self._keys[""] = digest(*images, self.classes)
            self._keys[mask] = digest(self._keys[""], *self.maps[mask])
        return self._keys[mask]

    @cached_property
    def _keys(self) -> dict[str, str]:
        return {}


def classifier_recipes(
    settings: SimpleNamespace, network: str, masks: Iterable[str], seeds: Iterable[int], **changes: object
) -> list[ClassifierRecipe]:
    """How a run's settings train ``network`` with each mask and seed; ``changes`` to other fields by name."""
    base = ClassifierRecipe(
        network=network,
        mask="",
        seed=0,
        epochs=settings.epochs[network],
        width=settings.widths[network],
        dropout=settings.dropout,
        batch=settings.batch,
        optimiser=settings.optimiser,
        learning_rate=settings.learning_rates[network],
        per_class=settings.train_per_class,
    )
    masks = tuple(masks)
    return [replace(base, mask=mask, seed=seed, **changes) for seed in seeds for mask in masks]


def learning_rates(recipe: ClassifierRecipe) -> list[float]:
    """The learning rate of every epoch (section 4.1: divided by 10 every 40 of 120 epochs)."""
    share = [epoch / recipe.epochs for epoch in range(recipe.epochs)]
    if recipe.optimiser == "sgd":
        return [recipe.learning_rate * 0.1 ** math.floor(3 * s) for s in share]
    return [recipe.learning_rate * (1 + math.cos(math.pi * s)) / 2 for s in share]


def masked_network(recipe: ClassifierRecipe, classes: int, size: int) -> SalMask:
    """The recipe's network with He weights that depend on the seed only, so that masks share their start."""
    torch.manual_seed(recipe.seed)
    plain = BUILDERS[recipe.network](classes, recipe.width, size, recipe.dropout)
    plain.apply(_he_weights)
    network = connected(plain, recipe.connection)
    if isinstance(network, LearnedMask):
        network.branch.apply(_he_weights)
    return network


def accuracies_by_epoch(
    recipes: Sequence[ClassifierRecipe], material: Material, device: torch.device
) -> pd.DataFrame:
    """Train every recipe; a row an epoch: the columns of ``RECIPE_KEYS``, epoch, loss and the accuracies.

    loss is the mean cross-entropy in nats; accuracy that on ``CURVE_IMAGES`` test images, evenly spread, in
    %; accuracy_even and accuracy_odd are those on the ones of even and of odd number, so that an epoch can be
    chosen on one half and judged on the other; final, the same in all rows of a training, is the last
    epoch's on all test images; made_on the device and torch version. The trainings share the cores, one
    thread each (or the workers of a cluster), and the GPU where that is the device. Each saves its
    state after every epoch: a second call, also one after an interruption, goes on there and gives the same
    numbers as an uninterrupted one; finished ones are recorded in ``results/kept`` and read from there.
    """
    return _measured(recipes, material.only(recipes), {}, device, torch.__version__)


def accuracies_elsewhere(
    recipes: Sequence[ClassifierRecipe],
    material: Material,
    others: Mapping[str, Material],
    device: torch.device,
) -> pd.DataFrame:
    """Accuracy (%) of every recipe's network, trained on ``material``, on the test images of other materials.

    Each material has maps for the recipes' masks. Rows: the columns of ``RECIPE_KEYS``, images (the name in
    ``others``), accuracy, made_on. Networks that are not trained yet are trained first.
    """
    others = {name: other.only(recipes) for name, other in others.items()}
    return _measured(recipes, material.only(recipes), others, device, torch.__version__)


def trained_classifier(recipe: ClassifierRecipe, material: Material, device: torch.device) -> SalMask:
    """The network of a recipe after its last epoch, in eval mode."""
    return _trained(recipe, material, device)[0].eval()


@torch.no_grad()
def predicted_classes(network: SalMask, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
    """The most probable class (N,) of normalised images (N, 3, H, W) with saliency maps (N, H, W)."""
    network.eval()
    part = 50 if images.device.type == "cpu" else 1000  # on a CPU what fits its cache is twice as fast
    parts = zip(images.split(part), saliency.split(part), strict=True)
    return torch.cat([network(x, s).argmax(1) for x, s in parts])


def normalised_images(images: np.ndarray, of: np.ndarray, device: torch.device) -> torch.Tensor:
    """Images (N, H, W, 3) uint8 as (N, 3, H, W), by channel means and deviations of the images ``of``."""
    pixels = of[::4].reshape(-1, 3).astype(np.float64) / 255
    mean = pixels.mean(0).astype(np.float32)
    deviation = np.maximum(pixels.std(0), 1 / 255).astype(np.float32)  # one colour must not divide by zero
    x = torch.from_numpy(np.require(images, requirements="W")).to(device).float().div_(255)
    x.sub_(torch.from_numpy(mean).to(device)).div_(torch.from_numpy(deviation).to(device))
    return x.permute(0, 3, 1, 2)


@kept("accuracies")
def _measured(
    recipes: Sequence[ClassifierRecipe],
    material: Material,
    others: Mapping[str, Material],
    device: torch.device,
    torch_version: str,  # a part of the key
) -> pd.DataFrame:
    """The accuracies of all recipes, by epoch or, where there are any, on the ``others`` after the last one.

    A worker is sent only the maps of its own mask.
    """
    if not recipes:
        raise ValueError("no recipe to train")
    jobs, keys = [], []
    for recipe in recipes:
        tested = {name: other.only([recipe]) for name, other in others.items()}
        jobs.append((recipe, material.only([recipe]), tested, device))
        tested_keys = {name: other.key(recipe.mask) for name, other in others.items()}
        keys.append((recipe, material.key(recipe.mask), tested_keys))
    marks = [{key: asdict(recipe)[key] for key in RECIPE_KEYS} for recipe in recipes]
    record, work = ("sal_mask_elsewhere", _accuracies_on) if others else ("sal_mask", _accuracies)
    found = recorded_side_by_side(record, work, jobs, marks, keys, device)
    frames = [rows.assign(**mark) for rows, mark in zip(found, marks, strict=True)]
    joined = pd.concat(frames, ignore_index=True)
    if others:
        joined["images"] = [list(others)[int(number)] for number in joined["images"]]
    return joined[RECIPE_KEYS + [column for column in joined if column not in RECIPE_KEYS]]


def _accuracies(recipe: ClassifierRecipe, material: Material, _: dict, device: torch.device) -> pd.DataFrame:
    return _trained(recipe, material, device)[1]


def _accuracies_on(
    recipe: ClassifierRecipe, material: Material, others: Mapping[str, Material], device: torch.device
) -> pd.DataFrame:
    network = trained_classifier(recipe, material, device)
    of = material.drawn(recipe).train_images
    rows = []
    for number, other in enumerate(others.values()):
        *inputs, truth = _on_device(
            other.test_images, other.maps[recipe.mask][1], other.test_labels, of, device
        )
        rows.append((number, _percent(predicted_classes(network, *inputs) == truth)))
    return pd.DataFrame(rows, columns=["images", "accuracy"])


def _trained(
    recipe: ClassifierRecipe, material: Material, device: torch.device
) -> tuple[SalMask, pd.DataFrame]:
    """The network after its last epoch and its log; both kept after every epoch."""
    checkpoint = Checkpoint("sal_mask", _trained, recipe, material.key(recipe.mask), device)
    network = masked_network(recipe, material.classes, material.train_images.shape[1])
    network = network.to(device, memory_format=torch.channels_last)
    optimiser = _optimiser(recipe, network)
    done, log = checkpoint.restore(network, optimiser)
    if done < recipe.epochs:
        material = material.drawn(recipe)
        train_maps, test_maps = material.maps[recipe.mask]
        of = material.train_images
        train_set = _on_device(of, train_maps, material.train_labels, of, device)
        *test_set, truth = _on_device(material.test_images, test_maps, material.test_labels, of, device)
        curve = np.arange(min(CURVE_IMAGES, len(truth))) * len(truth) // min(CURVE_IMAGES, len(truth))
    for epoch in range(done, recipe.epochs):
        optimiser.param_groups[0]["lr"] = learning_rates(recipe)[epoch]
        loss = _train_one_epoch(network, optimiser, *train_set, recipe, epoch)
        log.setdefault("loss", []).append(round(loss, 5))
        right = predicted_classes(network, *(part[curve] for part in test_set)) == truth[curve]
        for name, part in {"": right, "_even": right[::2], "_odd": right[1::2]}.items():
            log.setdefault(f"accuracy{name}", []).append(_percent(part))
        last = epoch + 1 == recipe.epochs
        if last:
            log["final"] = [_percent(predicted_classes(network, *test_set) == truth)]
        checkpoint.save(network, None if last else optimiser, epoch + 1, log)
    final = log.pop("final")[0]
    table = pd.DataFrame(log)[["loss", "accuracy", "accuracy_even", "accuracy_odd"]].assign(final=final)
    table.insert(0, "epoch", range(1, recipe.epochs + 1))
    return network, table


def _percent(right: torch.Tensor) -> float:
    """The share of True, in %, rounded as the record of trainings is."""
    return round(100 * float(right.double().mean()), 4)


def _train_one_epoch(network, optimiser, x, s, t, recipe: ClassifierRecipe, epoch: int) -> float:
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


def _he_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


def _optimiser(recipe: ClassifierRecipe, network: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), recipe.learning_rate, momentum=0.9, weight_decay=0.0005)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(network.parameters(), recipe.learning_rate)
    raise ValueError(f"optimiser must be 'sgd' or 'adamw', not {recipe.optimiser!r}")


def _on_device(
    images: np.ndarray, maps: np.ndarray, labels: np.ndarray, of: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (N, 3, H, W) normalised by the images ``of``, maps (N, H, W) and labels (N,), whole sets."""
    if maps.shape != images.shape[:3]:
        raise ValueError(f"maps of shape {maps.shape} do not fit images of shape {images.shape}")
    if not np.isfinite(maps).all():
        raise ValueError(f"{int((~np.isfinite(maps)).any((1, 2)).sum())} of {len(maps)} maps hold NaN")
    x = normalised_images(images, of, device)
    s = torch.from_numpy(maps.astype(np.float32)).to(device)
    return x, s, torch.from_numpy(labels).to(device)
