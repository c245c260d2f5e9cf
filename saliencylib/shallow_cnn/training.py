"""Training of the shallow saliency network (paper 2), as printed and in a variant that learns on a CPU.

A run depends on its recipe, its data and this code only: the initial weights and the order of the batches
follow from the seed and the epoch, so that a run continued from a checkpoint equals one never interrupted,
and runs with equal seeds and different losses share weights and order.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from saliencylib.study import cache, checkpoints
from saliencylib.shallow_cnn.network import losses as saliency_losses, network as shallow_cnn
from saliencylib.study.checkpoints import mixed_precision, native_bf16
from saliencylib.study.parallel import side_by_side
from saliencylib.shallow_cnn.losses import LOSSES
from saliencylib.shallow_cnn.network import MAP_SIZE, ShallowSaliencyCNN, shallow_saliency_cnn

STARTS = ("paper", "he", "mean map")
OPTIMISERS = ("sgd", "adamw")
FLIPS = ("all", "half of each batch")
LEFT = 0.98  # a network has left the mean map when its loss is below this share of the mean map's
LOG = ("train_steps", "train_losses", "validation_epochs", "validation_losses", "seconds")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run but its data. The defaults are the paper's (section VI.D).

    ``rates`` and ``momenta`` run from their first value to their second in equal steps per epoch. ``flips``
    "all" adds every image's mirror image to the training set, "half of each batch" mirrors images as they
    come. ``target_range`` is what the targets' 0 and 1 become for the loss, ``blur`` the width (pixels of the
    48x48 grid) of the Gaussian over predictions; ``preset``, ``width``, ``hidden`` and ``prior`` are those of
    ``shallow_saliency_cnn``.
    """

    loss: str = "mse"
    seed: int = 0
    preset: str = "replication"
    width: float = 1.0
    hidden: int | None = None
    prior: bool = False
    start: str = "paper"
    optimiser: str = "sgd"
    rates: tuple[float, float] = (0.03, 0.0001)
    momenta: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 0.0005
    batch: int = 128
    epochs: int = 1000
    loss_every: int = 5
    validate_every: int = 5
    checkpoint_every: int = 50
    flips: str = "all"
    target_range: tuple[float, float] = (0.0, 1.0)
    blur: float = 0.0

    def __post_init__(self) -> None:
        for value, valid, what in (
            (self.loss, tuple(LOSSES), "loss"),
            (self.start, STARTS, "start"),
            (self.optimiser, OPTIMISERS, "optimiser"),
            (self.flips, FLIPS, "flips"),
        ):
            if value not in valid:
                raise ValueError(f"{what} must be one of {', '.join(valid)}, not {value!r}")
        if self.target_range != (0, 1) and self.loss not in ("mse", "l1"):
            raise ValueError(f"the loss {self.loss!r} needs targets between 0 and 1, not {self.target_range}")

    @property
    def name(self) -> str:
        """The recipe's loss, and what else sets it apart from the others of its run."""
        name = LOSSES[self.loss].name + (", learned prior" if self.prior else "")
        return name + (", 10x10" if self.preset == "10x10" else "")

    def steps(self, images: int) -> int:
        """Steps an epoch for that many images, flips counted; the last batch may be smaller."""
        return -(-images // self.batch)

    def losses_logged(self, images: int) -> int:
        """Training losses that are noted an epoch."""
        return self.steps(images) // self.loss_every

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0: from ``rates[0]`` to ``rates[1]`` in equal steps."""
        return float(np.linspace(*self.rates, self.epochs)[epoch])

    def momentum(self, epoch: int) -> float:
        """Momentum of an epoch, counted from 0, as ``rate``."""
        return float(np.linspace(*self.momenta, self.epochs)[epoch])

    def loss_of(self, answers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The recipe's loss of answers for targets in [0, 1], both (N, 48, 48)."""
        low, high = self.target_range
        return LOSSES[self.loss].of(answers, low + (high - low) * targets)

    def maps_of(self, answers: torch.Tensor) -> torch.Tensor:
        """Answers (N, 48, 48) of a network of this recipe, read as maps in [0, 1]."""
        low, high = self.target_range
        return LOSSES[self.loss].maps((answers - low) / (high - low))

    def answer_for(self, maps: torch.Tensor) -> torch.Tensor:
        """The answers that ``maps_of`` reads as these maps."""
        low, high = self.target_range
        return low + (high - low) * LOSSES[self.loss].answers(maps)


RECIPES: Mapping[str, Recipe] = {
    "as printed": Recipe(),
    # The original release of Pan et al., which the paper re-implements. Choice: the paper's weight decay and
    # batch, which are not known to differ.
    "original release": Recipe(
        preset="pan2016",
        rates=(0.05, 0.0001),
        momenta=(0.9, 0.999),
        epochs=1200,
        flips="half of each batch",
        target_range=(-1.0, 1.0),
        blur=3.0,
    ),
    "starts at the mean map": Recipe(
        width=0.5,
        hidden=1152,
        start="mean map",
        optimiser="adamw",
        rates=(5e-4, 1e-4),
        weight_decay=0.01,
        epochs=10,
        validate_every=1,
        checkpoint_every=1,
    ),
}


@dataclass(frozen=True)
class Pairs:
    """Images (N, 96, 96, 3) uint8 and their target maps (N, 48, 48) float32 in [0, 1]."""

    images: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class Trained:
    """A trained network and its history: training losses by step, validation losses by epoch (both counted
    from 1), and the seconds that each epoch took."""

    model: ShallowSaliencyCNN
    recipe: Recipe
    train_steps: np.ndarray
    train_losses: np.ndarray
    validation_epochs: np.ndarray
    validation_losses: np.ndarray
    seconds: np.ndarray


def train(
    recipe: Recipe, training: Pairs, validation: Pairs, device: torch.device, folder: Path | None = None
) -> Trained:
    """Train a network on the pairs and their horizontal flips, or load it when this very run was finished.

    ``folder`` holds checkpoints and finished runs (None: the project's cache), named by a hash of recipe,
    data, code, torch's version and arithmetic. An interrupted run goes on from its last checkpoint. Where
    the device computes bfloat16 natively, the network runs in it; weights stay float32. Raises ValueError
    when there are no images, and FloatingPointError when the loss is no longer finite.
    """
    if not len(training) or not len(validation):
        raise ValueError("training needs at least one image to train on and one to validate on")
    path = (cache.CACHE / "shallow_cnn" if folder is None else folder) / (
        f"{_key(recipe, training, validation, device)}.safetensors"
    )
    model = untrained(recipe, training).to(device)
    optimiser = _optimiser(model, recipe)
    done, saved = checkpoints.restore(path, model, optimiser)
    log = {name: saved.get(name, []) for name in LOG}
    if done < recipe.epochs:
        images, targets = _on_device(training, device, flips=recipe.flips == "all")
        check = _on_device(validation, device, flips=False)
    for epoch in range(done, recipe.epochs):
        began = time.perf_counter()
        _one_epoch(model, optimiser, recipe, epoch, images, targets, log)
        if (epoch + 1) % recipe.validate_every == 0:
            log["validation_epochs"].append(epoch + 1)
            log["validation_losses"].append(_validation_loss(model, recipe, *check)[0])
        log["seconds"].append(time.perf_counter() - began)
        if not np.isfinite(log["train_losses"][-1:] + log["validation_losses"][-1:]).all():
            raise FloatingPointError(f"the loss is not finite after epoch {epoch + 1} of {recipe}")
        if epoch + 1 == recipe.epochs:
            optimiser = _optimiser(
                model, recipe
            )  # a finished run needs no optimiser state: a third of the file
        if (epoch + 1) % recipe.checkpoint_every == 0 or epoch + 1 == recipe.epochs:
            checkpoints.save(path, model, optimiser, epoch + 1, log)
    return Trained(model.eval(), recipe, **{name: np.array(values) for name, values in log.items()})


def untrained(recipe: Recipe, training: Pairs) -> ShallowSaliencyCNN:
    """The recipe's network at its start, on the CPU; its weights follow from the seed (and the mean map)."""
    model = shallow_saliency_cnn(recipe.preset, recipe.hidden, recipe.width, recipe.seed, recipe.prior)
    if recipe.start == "he":
        shallow_cnn.he_start(model, recipe.seed)
    elif recipe.start == "mean map":
        mean_answer = recipe.answer_for(torch.from_numpy(mean_map(training)))
        shallow_cnn.mean_map_start(model, mean_answer, recipe.seed)
    return model


def mean_map(pairs: Pairs) -> np.ndarray:
    """The mean target (48, 48) of the pairs and their flips."""
    mean = pairs.targets.mean(0, dtype=np.float64)
    return ((mean + mean[:, ::-1]) / 2).astype(np.float32)


def train_all(
    recipes: Sequence[Recipe],
    training: Pairs,
    validation: Pairs,
    device: torch.device,
    folder: Path | None = None,
) -> list[Trained]:
    """``train`` for each recipe, in their order.

    On a CPU the trainings share the cores, one thread each (or whatever joblib back end is active): that
    wastes no time on waiting, and the numbers do not depend on how many cores there are, unless a training is
    alone and takes them all. On a GPU they follow one another.
    """
    jobs = [(recipe, training, validation, device, folder) for recipe in recipes]
    return side_by_side(train, jobs, device)


def trace(
    recipe: Recipe, training: Pairs, validation: Pairs, steps: int, every: int, device: torch.device
) -> pd.DataFrame:
    """The first ``steps`` steps of a recipe, watched: does it leave the mean map, and when?

    A row for the start and for every ``every`` steps, with columns step, loss (validation loss as a share of
    the mean map's) and spread (how much answers differ between images, the mean standard deviation of a
    pixel, as a share of how much the truths do). Kept in the cache.
    """
    path = cache.CACHE / "shallow_cnn" / f"{_key(recipe, training, validation, device, steps, every)}.npz"
    found = cache.load_arrays(path)
    if found is None:
        found = _traced(recipe, training, validation, steps, every, device)
        cache.save_arrays(path, **found)
    return pd.DataFrame(found)


def traces(
    recipes: Mapping[str, Recipe],
    training: Pairs,
    validation: Pairs,
    steps: int,
    every: int,
    device: torch.device,
) -> pd.DataFrame:
    """``trace`` of every recipe, with its name in the column ``name``; trainings share the cores."""
    jobs = [(recipe, training, validation, steps, every, device) for recipe in recipes.values()]
    rows = side_by_side(trace, jobs, device)
    return pd.concat([frame.assign(name=name) for name, frame in zip(recipes, rows, strict=True)])


def left_plateau(trace: pd.DataFrame) -> float:
    """The first step of a ``trace`` at which the loss is below 98 % of the mean map's; NaN if it never is."""
    below = trace.loc[trace["loss"] < LEFT, "step"]
    return float(below.iloc[0]) if len(below) else float("nan")


def recipes(base: Recipe, losses: Sequence[str], seeds: Sequence[int]) -> list[Recipe]:
    """The base recipe for every loss and seed, losses outside."""
    return [replace(base, loss=loss, seed=seed) for loss in losses for seed in seeds]


@torch.no_grad()
def predict(
    model: ShallowSaliencyCNN, recipe: Recipe, images: np.ndarray, device: torch.device, batch: int = 256
) -> np.ndarray:
    """Saliency maps (N, 48, 48) float32 in [0, 1] of images (N, 96, 96, 3) uint8, for a network of a recipe.

    Computed in float32.
    """
    model = model.to(device).eval()
    maps = np.empty((len(images), MAP_SIZE, MAP_SIZE), np.float32)
    for start in range(0, len(images), batch):
        part = torch.from_numpy(images[start : start + batch]).to(device).permute(0, 3, 1, 2)
        maps[start : start + batch] = recipe.maps_of(model(_floats(part))).cpu().numpy()
    return gaussian_filter(maps, (0, recipe.blur, recipe.blur)) if recipe.blur else maps


def training_step(
    model: ShallowSaliencyCNN,
    optimiser: torch.optim.Optimizer,
    recipe: Recipe,
    images: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    """One step on a batch of images (N, 3, 96, 96) uint8 and targets (N, 48, 48); its loss, on the device."""
    if recipe.flips == "half of each batch":
        half = len(images) // 2
        images = torch.cat([images[:half].flip(3), images[half:]])
        targets = torch.cat([targets[:half].flip(2), targets[half:]])
    with mixed_precision(images.device):
        answers = model(_floats(images))
    loss = recipe.loss_of(answers.float(), targets)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.detach()


def _key(recipe: Recipe, training: Pairs, validation: Pairs, device: torch.device, *more: object) -> str:
    """Names a run by everything that its numbers depend on."""
    arrays = (training.images, training.targets, validation.images, validation.targets)
    code = (sys.modules[__name__], saliency_losses, shallow_cnn, checkpoints, torch.__version__)
    return cache.key(asdict(recipe), *arrays, *code, device.type, native_bf16(device), *more)


def _traced(
    recipe: Recipe, training: Pairs, validation: Pairs, steps: int, every: int, device: torch.device
) -> dict[str, np.ndarray]:
    images, targets = _on_device(training, device, flips=recipe.flips == "all")
    check = _on_device(validation, device, flips=False)
    level = torch.from_numpy(mean_map(training)).to(device).expand_as(check[1])
    of_mean_map = float(recipe.loss_of(recipe.answer_for(level), check[1]))
    truths = float(check[1].std(0).mean())
    model = untrained(recipe, training).to(device)
    optimiser = _optimiser(model, recipe)
    rows = [(0, *_validation_loss(model, recipe, *check))]
    step = 0
    for epoch in range(-(-steps // recipe.steps(len(images)))):
        for _ in _steps(model, optimiser, recipe, epoch, images, targets):
            step += 1
            if step % every == 0:
                rows.append((step, *_validation_loss(model, recipe, *check)))
                model.train()
            if step == steps:
                break
    step, loss, spread = np.array(rows).T
    return {"step": step, "loss": loss / of_mean_map, "spread": spread / truths}


def _steps(
    model: ShallowSaliencyCNN,
    optimiser: torch.optim.Optimizer,
    recipe: Recipe,
    epoch: int,
    images: torch.Tensor,
    targets: torch.Tensor,
) -> Iterator[torch.Tensor]:
    """The losses of the steps of ``epoch`` (from 0), each made when it is asked for."""
    model.train()
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate(epoch)
        if recipe.optimiser == "sgd":
            group["momentum"] = recipe.momentum(epoch)
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(images))
    for chosen in torch.from_numpy(order).to(images.device).split(recipe.batch):
        yield training_step(model, optimiser, recipe, images[chosen], targets[chosen])


def _one_epoch(
    model: ShallowSaliencyCNN,
    optimiser: torch.optim.Optimizer,
    recipe: Recipe,
    epoch: int,
    images: torch.Tensor,
    targets: torch.Tensor,
    log: dict[str, list[float]],
) -> None:
    """Train ``epoch`` (from 0) on the device's tensors; losses are fetched once, at its end."""
    noted = []
    for step, loss in enumerate(_steps(model, optimiser, recipe, epoch, images, targets), 1):
        if step % recipe.loss_every == 0:
            noted.append(loss)
            log["train_steps"].append(epoch * recipe.steps(len(images)) + step)
    log["train_losses"] += torch.stack(noted).tolist() if noted else []


@torch.no_grad()
def _validation_loss(
    model: ShallowSaliencyCNN, recipe: Recipe, images: torch.Tensor, targets: torch.Tensor
) -> tuple[float, float]:
    """Over all validation images, in float32: the loss, and the mean standard deviation of a map's pixels."""
    model.eval()
    answers = torch.cat([model(_floats(part)) for part in images.split(256)])
    parts = zip(answers.split(256), targets.split(256), strict=True)
    total = sum(recipe.loss_of(answer, truth).double() * len(truth) for answer, truth in parts)
    return float(total / len(images)), float(recipe.maps_of(answers).std(0).mean())


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    options = {"lr": recipe.rates[0], "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=recipe.momenta[0], nesterov=True, **options)
    return torch.optim.AdamW(model.parameters(), **options)


def _on_device(pairs: Pairs, device: torch.device, flips: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 3, 96, 96) uint8 and targets (N, 48, 48) on the device, twice as many with flips.

    They are copies, since joblib gives a worker arrays that cannot be written to, and torch warns of those.
    """
    images = torch.from_numpy(pairs.images.copy()).to(device).permute(0, 3, 1, 2)
    targets = torch.from_numpy(pairs.targets.copy()).to(device)
    if flips:
        images, targets = torch.cat([images, images.flip(3)]), torch.cat([targets, targets.flip(2)])
    return images.contiguous(memory_format=torch.channels_last), targets


def _floats(images: torch.Tensor) -> torch.Tensor:
    """uint8 to float32 in [0, 1]; the memory layout that convolutions like best is kept."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)
