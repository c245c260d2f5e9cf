"""Training of the shallow saliency network (paper 2), as printed and in a variant that learns in minutes.

A run depends on its recipe, its data and this code only: the initial weights and the order of the batches
follow from the seed and the epoch, so that a run continued from a checkpoint equals one never interrupted,
and runs with equal seeds and different losses share weights and order.
"""

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from itertools import chain, count
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from saliencylib.shallow_cnn.network import (
    GAZE_LOSSES,
    MAP_SIZE,
    ShallowSaliencyCNN,
    he_start,
    mean_map_start,
    shallow_saliency_cnn,
)
from saliencylib.study.keep import Checkpoint, kept, side_by_side

STARTS = ("paper", "he", "mean map")
OPTIMISERS = ("sgd", "adamw")
LEFT = 0.98  # a network has left the mean map when its loss is below this share of the mean map's
PREDICTED_AT_ONCE = 256  # images
LOG = ("train_steps", "train_losses", "validation_epochs", "validation_losses", "seconds")


@dataclass(frozen=True)
class GazeRecipe:
    """Everything that decides a training run but its data. The defaults are the paper's (section VI.D).

    ``rates`` run from the first value to the second in equal steps per epoch, over ``falls`` epochs (None:
    all of them), and stay there. With ``patience`` the network is that of the epoch of the lowest validation
    loss, and training stops when so many epochs brought none lower; without, it is the last epoch's.
    ``run_on`` keeps both networks and does not stop. ``bf16`` is bfloat16 where the device has it natively.
    ``preset``, ``width``, ``hidden`` and ``prior`` are those of ``shallow_saliency_cnn``. ``data`` names what
    is trained on where it is not what the other trainings of a run see.
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
    momentum: float = 0.9
    weight_decay: float = 0.0005
    batch: int = 128
    epochs: int = 1000
    falls: int | None = None
    patience: int | None = None
    run_on: bool = False
    bf16: bool = False
    loss_every: int = 5
    validate_every: int = 5
    checkpoint_every: int = 50
    data: str = ""

    def __post_init__(self) -> None:
        for name, valid in (("loss", tuple(GAZE_LOSSES)), ("start", STARTS), ("optimiser", OPTIMISERS)):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} must be one of {', '.join(valid)}, not {getattr(self, name)!r}")

    @property
    def name(self) -> str:
        """The recipe's loss, and what else sets it apart from the others of its run."""
        small = self.start == "paper" or self.width < 1
        name = GAZE_LOSSES[self.loss].name + (", learned prior" if self.prior else "")
        name += (", 10x10" if self.preset == "10x10" else "") + ("" if small else ", full size")
        return name + (f", {self.data}" if self.data else "")

    def steps(self, images: int) -> int:
        """Steps an epoch for that many images, flips counted; the last batch may be smaller."""
        return -(-images // self.batch)

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0: from ``rates[0]`` to ``rates[1]`` in equal steps."""
        falls = self.falls or self.epochs
        return float(np.linspace(*self.rates, falls)[min(epoch, falls - 1)])

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the epoch of the lowest validation loss are kept beside the last ones."""
        return self.patience is not None or self.run_on

    def stops(self, validation_losses: Sequence[float]) -> bool:
        """Whether training ends here: the lowest of these losses is ``patience`` epochs old."""
        if self.patience is None or self.run_on or not validation_losses:
            return False
        since = len(validation_losses) - 1 - int(np.argmin(validation_losses))
        return since * self.validate_every >= self.patience


GAZE_RECIPES: Mapping[str, GazeRecipe] = {
    "as printed": GazeRecipe(),
    "stopped in time": GazeRecipe(
        width=0.25,
        hidden=288,
        start="mean map",
        optimiser="adamw",
        rates=(5e-4, 2.5e-5),
        weight_decay=0.01,
        batch=32,
        epochs=40,
        falls=12,
        patience=8,
        validate_every=1,
        checkpoint_every=1,
    ),
}


@dataclass(frozen=True)
class GazePairs:
    """Images (N, 96, 96, 3) uint8 and their target maps (N, 48, 48) float32 in [0, 1]."""

    images: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class GazeTraining:
    """A trained network and its history: training losses by step, validation losses by epoch (both counted
    from 1), and the seconds that each epoch took. ``best`` is the network after the epoch of the lowest
    validation loss, ``last`` that after the last epoch; the same where the recipe keeps one only."""

    best: ShallowSaliencyCNN
    last: ShallowSaliencyCNN
    recipe: GazeRecipe
    train_steps: np.ndarray
    train_losses: np.ndarray
    validation_epochs: np.ndarray
    validation_losses: np.ndarray
    seconds: np.ndarray

    @property
    def model(self) -> ShallowSaliencyCNN:
        """The network that is judged: the best one where the recipe has a patience, else the last."""
        return self.last if self.recipe.patience is None else self.best

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest validation loss, counted from 1."""
        return int(self.validation_epochs[self.validation_losses.argmin()])

    @property
    def judged_loss(self) -> float:
        """The validation loss of ``model``."""
        losses = self.validation_losses
        return float(losses[-1] if self.recipe.patience is None else losses.min())


def train_gaze_network(
    recipe: GazeRecipe, training: GazePairs, validation: GazePairs, device: torch.device
) -> GazeTraining:
    """Train a network on the pairs and their horizontal flips, or load it when this very run was finished.

    An interrupted run goes on from its last checkpoint. Weights are float32 throughout. Raises ValueError
    when there are no images, and FloatingPointError when the loss is no longer finite.
    """
    if not len(training) or not len(validation):
        raise ValueError("training needs at least one image to train on and one to validate on")
    parts = recipe, training, validation, device, recipe.bf16 and native_bf16(device)
    checkpoint = Checkpoint("shallow_cnn", train_gaze_network, *parts)
    model = untrained_gaze_network(recipe, training).to(device)
    optimiser = gaze_optimiser(model, recipe)
    networks = nn.ModuleList([model] + [copy.deepcopy(model)] * recipe.keeps_best)
    done, saved = checkpoint.restore(networks, optimiser)
    log = {name: saved.get(name, []) for name in LOG}
    checked = log["validation_losses"]
    if done < recipe.epochs and not recipe.stops(checked):
        pairs = on_device(training, device, flips=True)
        check = on_device(validation, device, flips=False)
    while done < recipe.epochs and not recipe.stops(checked):
        began = time.perf_counter()
        losses = torch.stack(list(_steps(model, optimiser, recipe, done, *pairs)))  # fetched once
        noted = range(recipe.loss_every, len(losses) + 1, recipe.loss_every)
        log["train_steps"] += [done * len(losses) + step for step in noted]
        log["train_losses"] += losses[recipe.loss_every - 1 :: recipe.loss_every].tolist()
        done += 1
        if done % recipe.validate_every == 0:
            log["validation_epochs"].append(done)
            checked.append(_loss_and_spread(model, recipe, *check)[0])
            if checked[-1] == min(checked):
                networks[-1].load_state_dict(model.state_dict())
        log["seconds"].append(time.perf_counter() - began)
        if not np.isfinite(log["train_losses"][-1:] + checked[-1:]).all():
            raise FloatingPointError(f"the loss is not finite after epoch {done} of {recipe}")
        last = done == recipe.epochs or recipe.stops(checked)
        if last or done % recipe.checkpoint_every == 0:
            checkpoint.save(networks, None if last else optimiser, done, log)
    history = {name: np.array(values) for name, values in log.items()}
    return GazeTraining(networks[-1].eval(), model.eval(), recipe, **history)


def train_gaze_networks(
    recipes: Sequence[GazeRecipe], training: GazePairs, validation: GazePairs, device: torch.device
) -> list[GazeTraining]:
    """``train_gaze_network`` for each recipe, in their order.

    On a CPU the trainings share the cores, one thread each, so that the numbers do not depend on how many
    cores there are (unless a training is alone and takes them all); on a GPU they follow one another.
    """
    jobs = [(recipe, training, validation, device) for recipe in recipes]
    return side_by_side(train_gaze_network, jobs, device)


def untrained_gaze_network(recipe: GazeRecipe, training: GazePairs) -> ShallowSaliencyCNN:
    """The recipe's network at its start, on the CPU; its weights follow from the seed (and the mean map)."""
    model = shallow_saliency_cnn(recipe.preset, recipe.hidden, recipe.width, recipe.seed, recipe.prior)
    if recipe.start == "he":
        he_start(model, recipe.seed)
    elif recipe.start == "mean map":
        answer = GAZE_LOSSES[recipe.loss].answers(torch.from_numpy(mean_map(training)))
        mean_map_start(model, answer, recipe.seed)
    return model


def mean_map(pairs: GazePairs) -> np.ndarray:
    """The mean target (48, 48) of the pairs and their flips: the best constant answer for MSE."""
    mean = pairs.targets.mean(0, dtype=np.float64)
    return ((mean + mean[:, ::-1]) / 2).astype(np.float32)


def median_map(pairs: GazePairs) -> np.ndarray:
    """The median target (48, 48) of the pairs and their flips: the best constant answer for L1."""
    return np.median(np.concatenate([pairs.targets, pairs.targets[:, :, ::-1]]), axis=0)


@kept("predictions")
@torch.no_grad()
def predicted_maps(
    model: ShallowSaliencyCNN, recipe: GazeRecipe, images: np.ndarray, device: torch.device
) -> np.ndarray:
    """Saliency maps (N, 48, 48) float32 in [0, 1] of images (N, 96, 96, 3) uint8, for a network of a recipe.

    Computed in float32, and kept between runs.
    """
    model = model.to(device)
    maps = np.empty((len(images), MAP_SIZE, MAP_SIZE), np.float32)
    for start in range(0, len(images), PREDICTED_AT_ONCE):
        part = slice(start, start + PREDICTED_AT_ONCE)
        pixels = torch.from_numpy(np.require(images[part], requirements="W")).to(device).permute(0, 3, 1, 2)
        maps[part] = GAZE_LOSSES[recipe.loss].maps(model(_floats(pixels))).cpu().numpy()
    return maps


def maps_by_training(
    trained: Sequence[GazeTraining], images: np.ndarray, device: torch.device
) -> dict[tuple[str, int], np.ndarray]:
    """``predicted_maps`` of every trained network, by its recipe's name and seed."""
    jobs = [(t.model, t.recipe, images, device) for t in trained]
    found = side_by_side(predicted_maps, jobs, device)
    return {(t.recipe.name, t.recipe.seed): maps for t, maps in zip(trained, found, strict=True)}


def gaze_training_step(
    model: ShallowSaliencyCNN, optimiser: Optimizer, recipe: GazeRecipe, images: Tensor, targets: Tensor
) -> Tensor:
    """One step on a batch of images (N, 3, 96, 96) uint8 and targets (N, 48, 48); its loss, on the device."""
    with mixed_precision(images.device, recipe.bf16):
        answers = model(_floats(images))
    loss = GAZE_LOSSES[recipe.loss].of(answers.float(), targets)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.detach()


def gaze_optimiser(model: nn.Module, recipe: GazeRecipe) -> Optimizer:
    """The recipe's optimiser for the network's weights, at the first epoch's learning rate."""
    options = {"lr": recipe.rates[0], "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimiser == "sgd":
        return SGD(model.parameters(), momentum=recipe.momentum, nesterov=True, **options)
    return AdamW(model.parameters(), **options)


def on_device(pairs: GazePairs, device: torch.device, flips: bool) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 96, 96) uint8 and targets (N, 48, 48) on the device, twice as many with flips.

    They are copies, since joblib gives a worker arrays that cannot be written to, and torch warns of those.
    """
    images = torch.from_numpy(pairs.images.copy()).to(device).permute(0, 3, 1, 2)
    targets = torch.from_numpy(pairs.targets.copy()).to(device)
    if flips:
        images, targets = torch.cat([images, images.flip(3)]), torch.cat([targets, targets.flip(2)])
    return images.contiguous(memory_format=torch.channels_last), targets


@kept("plateau", table=True)
def plateau_trace(
    recipe: GazeRecipe,
    training: GazePairs,
    validation: GazePairs,
    steps: int,
    every: int,
    device: torch.device,
) -> pd.DataFrame:
    """The first ``steps`` steps of a recipe, watched: does it leave the mean map, and when?

    A row for the start and for every ``every`` steps, with columns step, loss (validation loss as a share of
    the mean map's) and spread (how much answers differ between images, the mean standard deviation of a
    pixel, as a share of how much the truths do).
    """
    pairs = on_device(training, device, flips=True)
    check = on_device(validation, device, flips=False)
    level = torch.from_numpy(mean_map(training)).to(device).expand_as(check[1])
    loss = GAZE_LOSSES[recipe.loss]
    model = untrained_gaze_network(recipe, training).to(device)
    optimiser = gaze_optimiser(model, recipe)
    rows = [(0.0, *_loss_and_spread(model, recipe, *check))]
    stream = chain.from_iterable(_steps(model, optimiser, recipe, epoch, *pairs) for epoch in count())
    for step, _ in zip(range(1, steps + 1), stream, strict=False):
        if step % every == 0:
            rows.append((float(step), *_loss_and_spread(model, recipe, *check)))
    found = pd.DataFrame(rows, columns=["step", "loss", "spread"])
    found["loss"] /= float(loss.of(loss.answers(level), check[1]))
    found["spread"] /= float(check[1].std(0).mean())
    return found


def left_plateau(trace: pd.DataFrame) -> float:
    """The first step of a ``plateau_trace`` at which the loss is below 98 % of the mean map's, or NaN."""
    below = trace.loc[trace["loss"] < LEFT, "step"]
    return float(below.iloc[0]) if len(below) else float("nan")


@cache
def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def mixed_precision(device: torch.device, wanted: bool) -> AbstractContextManager:
    """bfloat16 autocast where it is wanted and the device has it natively, else plain float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and native_bf16(device))


def _steps(
    model: ShallowSaliencyCNN,
    optimiser: Optimizer,
    recipe: GazeRecipe,
    epoch: int,
    images: Tensor,
    targets: Tensor,
) -> Iterator[Tensor]:
    """The losses of the steps of ``epoch`` (from 0), each made when it is asked for."""
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate(epoch)
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(images))
    for chosen in torch.from_numpy(order).to(images.device).split(recipe.batch):
        yield gaze_training_step(model, optimiser, recipe, images[chosen], targets[chosen])


@torch.no_grad()
def _loss_and_spread(
    model: ShallowSaliencyCNN, recipe: GazeRecipe, images: Tensor, targets: Tensor
) -> tuple[float, float]:
    """Over all validation images, in float32: the loss, and the mean standard deviation of a map's pixels."""
    loss = GAZE_LOSSES[recipe.loss]
    answers = torch.cat([model(_floats(part)) for part in images.split(PREDICTED_AT_ONCE)])
    parts = zip(answers.split(PREDICTED_AT_ONCE), targets.split(PREDICTED_AT_ONCE), strict=True)
    total = sum(loss.of(answer, truth).double() * len(truth) for answer, truth in parts)
    return float(total / len(images)), float(loss.maps(answers).std(0).mean())


def _floats(images: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]; the memory layout that convolutions like best is kept."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)
