"""Training of the shallow saliency network (paper 2), as printed and in a variant that learns on a CPU.

A run depends on its recipe, its data and this code only: the initial weights and the order of the batches
follow from the seed and the epoch, so that a run continued from a checkpoint equals one never interrupted,
and runs with equal seeds and different losses share weights and order.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import nn
from torch.nn import functional

from saliencylib import cache, checkpoints, shallow_cnn
from saliencylib.checkpoints import mixed_precision, native_bf16
from saliencylib.shallow_cnn import MAP_SIZE, ShallowSaliencyCNN, shallow_saliency_cnn

# Both take predictions and targets (N, 48, 48) and average over images and pixels.
LOSSES: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
}
STARTS = ("paper", "mean map")
OPTIMISERS = ("sgd", "adamw")
LOG = ("train_steps", "train_losses", "validation_epochs", "validation_losses", "seconds")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run but its data. The defaults are the paper's (section VI.D)."""

    loss: str = "mse"
    seed: int = 0
    preset: str = "replication"
    width: float = 1.0
    hidden: int | None = None
    start: str = "paper"
    optimiser: str = "sgd"
    rates: tuple[float, float] = (0.03, 0.0001)
    momentum: float = 0.9
    weight_decay: float = 0.0005
    batch: int = 128
    epochs: int = 1000
    loss_every: int = 5
    validate_every: int = 5
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        for value, valid, what in (
            (self.loss, tuple(LOSSES), "loss"),
            (self.start, STARTS, "start"),
            (self.optimiser, OPTIMISERS, "optimiser"),
        ):
            if value not in valid:
                raise ValueError(f"{what} must be one of {', '.join(valid)}, not {value!r}")

    def steps(self, images: int) -> int:
        """Steps an epoch for that many images, flips counted; the last batch may be smaller."""
        return -(-images // self.batch)

    def losses_logged(self, images: int) -> int:
        """Training losses that are noted an epoch."""
        return self.steps(images) // self.loss_every

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0: from ``rates[0]`` to ``rates[1]`` in equal steps."""
        return float(np.linspace(*self.rates, self.epochs)[epoch])


RECIPES: Mapping[str, Recipe] = {
    "as printed": Recipe(),
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
    arrays = (training.images, training.targets, validation.images, validation.targets)
    code = (
        sys.modules[__name__],
        shallow_cnn,
        checkpoints,
        torch.__version__,
        device.type,
        native_bf16(device),
    )
    name = f"{cache.key(asdict(recipe), *arrays, *code)}.safetensors"
    path = (cache.CACHE / "shallow_cnn" if folder is None else folder) / name
    model = untrained(recipe, training).to(device)
    optimiser = _optimiser(model, recipe)
    done, saved = checkpoints.restore(path, model, optimiser)
    log = {name: saved.get(name, []) for name in LOG}
    if done < recipe.epochs:
        images, targets = _on_device(training, device, flips=True)
        check = _on_device(validation, device, flips=False)
    for epoch in range(done, recipe.epochs):
        began = time.perf_counter()
        _one_epoch(model, optimiser, recipe, epoch, images, targets, log)
        if (epoch + 1) % recipe.validate_every == 0:
            log["validation_epochs"].append(epoch + 1)
            log["validation_losses"].append(_validation_loss(model, recipe, *check))
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
    model = shallow_saliency_cnn(recipe.preset, recipe.hidden, recipe.width, recipe.seed)
    if recipe.start == "mean map":
        shallow_cnn.mean_map_start(model, torch.from_numpy(mean_map(training)), recipe.seed)
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
    wastes no time on waiting, and the numbers do not depend on how many cores there are. On a GPU they
    follow one another.
    """
    workers = 1 if device.type == "cuda" else min(len(recipes), torch.get_num_threads())
    with Parallel(n_jobs=workers, max_nbytes="1M") as parallel:
        return parallel(
            delayed(_train_on_one_thread)(recipe, training, validation, device, folder) for recipe in recipes
        )


def _train_on_one_thread(*arguments: object) -> Trained:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train(*arguments)
    finally:
        torch.set_num_threads(threads)


def first_steps(recipe: Recipe, training: Pairs, steps: int, device: torch.device) -> Trained:
    """The first ``steps`` steps of a recipe, every loss noted, nothing validated and nothing saved.

    They use images spread evenly over the training set. Raises ValueError when there are too few.
    """
    count = steps * recipe.batch // 2
    if count > len(training):
        raise ValueError(f"{steps} steps need {count} images and their flips, not {len(training)}")
    chosen = np.arange(count) * len(training) // count
    images, targets = _on_device(Pairs(training.images[chosen], training.targets[chosen]), device, flips=True)
    model = untrained(recipe, training).to(device)
    log = {name: [] for name in LOG}
    _one_epoch(model, _optimiser(model, recipe), replace(recipe, loss_every=1), 0, images, targets, log)
    return Trained(model.eval(), recipe, **{name: np.array(values) for name, values in log.items()})


def recipes(base: Recipe, losses: Sequence[str], seeds: Sequence[int]) -> list[Recipe]:
    """The base recipe for every loss and seed, losses outside."""
    return [replace(base, loss=loss, seed=seed) for loss in losses for seed in seeds]


@torch.no_grad()
def predict(
    model: ShallowSaliencyCNN, images: np.ndarray, device: torch.device, batch: int = 256
) -> np.ndarray:
    """Saliency maps (N, 48, 48) float32, cut to [0, 1], of images (N, 96, 96, 3) uint8; in float32."""
    model = model.to(device).eval()
    maps = np.empty((len(images), MAP_SIZE, MAP_SIZE), np.float32)
    for start in range(0, len(images), batch):
        part = torch.from_numpy(images[start : start + batch]).to(device).permute(0, 3, 1, 2)
        maps[start : start + batch] = model(_floats(part)).clamp(0, 1).cpu().numpy()
    return maps


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
    model.train()
    loss_of = LOSSES[recipe.loss]
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate(epoch)
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(images))
    noted = []
    for step, chosen in enumerate(torch.from_numpy(order).to(images.device).split(recipe.batch), 1):
        with mixed_precision(images.device):
            maps = model(_floats(images[chosen]))
        loss = loss_of(maps.float(), targets[chosen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if step % recipe.loss_every == 0:
            noted.append(loss.detach())
            log["train_steps"].append(epoch * recipe.steps(len(images)) + step)
    log["train_losses"] += torch.stack(noted).tolist() if noted else []


@torch.no_grad()
def _validation_loss(
    model: ShallowSaliencyCNN, recipe: Recipe, images: torch.Tensor, targets: torch.Tensor
) -> float:
    """The loss over all validation images, in float32."""
    model.eval()
    total = sum(
        LOSSES[recipe.loss](model(_floats(part)), truth).double() * len(part)
        for part, truth in zip(images.split(256), targets.split(256), strict=True)
    )
    return float(total / len(images))


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    options = {"lr": recipe.rates[0], "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=recipe.momentum, nesterov=True, **options)
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
