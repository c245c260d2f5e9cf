"""LICNN: attention and saliency maps of a classifier by lateral inhibition (Cao et al., AAAI 2018).

Cao, Huang, Wang, Wang and Liu, "Lateral inhibition-inspired convolutional neural network for visual attention
and saliency detection". The map is their response-based one; equation numbers are the reproduction's.
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional

from saliencylib.inputs import (
    Images,
    check_classes,
    check_count,
    check_network,
    check_number,
    classes_each,
    image_batch,
    logits_of,
    network_input,
    outside_inference,
    target_classes,
)
from saliencylib.licnn.activations import ActivationCalls, check_reached, is_feature_map, relu_hooks

# What the text says and what the released code does, where the two differ. "normalised" is the text in
# every step, with the one norm that it omits and the code has: without it the text leaves nothing. The text
# only says "resize"; bilinear is the reading taken.
PRESETS = {
    "normalised": {
        "normalise_gradient": True,
        "mask_last": True,
        "normalise_layers": True,
        "interpolation": "bilinear",
    },
    "released_code": {
        "normalise_gradient": True,  # L2-normalise the Max-C map before it is inhibited
        "mask_last": False,  # gate the last feature map too (relu5_3 in VGG-16)
        "normalise_layers": False,  # L2-normalise each layer's response before the sum
        "interpolation": "nearest",
    },
    "text": {
        "normalise_gradient": False,
        "mask_last": True,
        "normalise_layers": True,
        "interpolation": "bilinear",
    },
}


@cache
def _zone(k: int) -> tuple[tuple[float, tuple[tuple[int, int], ...]], ...]:
    """Weights d * exp(-d) of a k x k zone, each with the offsets (dy, dx) that share it."""
    offsets = defaultdict(list)
    for dy in range(-(k // 2), k // 2 + 1):
        for dx in range(-(k // 2), k // 2 + 1):
            if dy or dx:
                offsets[dy * dy + dx * dx].append((dy, dx))
    distances = {square: math.sqrt(square) / k for square in sorted(offsets)}
    return tuple((d * math.exp(-d), tuple(offsets[square])) for square, d in distances.items())


def lateral_inhibition(x: Tensor, k: int = 7, a: float = 0.1, b: float = 0.9) -> Tensor:
    """Equation 3: the inhibition (N, H, W) that each location of maps x (N, H, W) receives from its zone.

    LI_ij = a * exp(-mean of the k x k zone) + b * sum over the zone of d * exp(-d) * max(0, x_uv - x_ij),
    with d the distance divided by k and zeros outside the map. Values are those before their L2 norm, in the
    type of x. Raises ValueError for an even k, for a and b that are not finite, and for anything but a
    floating-point tensor (N, H, W) of at least one pixel; NaN and infinity are looked for on the CPU alone.
    """
    check_rule(k, a, b)
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 3 or not x.shape[1:].numel():
        found = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"need maps (N, H, W), a tensor of floating point, not {found}")
    if x.device.type == "cpu" and not x.isfinite().all():
        raise ValueError("the maps hold NaN or infinity")
    r, (height, width) = k // 2, x.shape[1:]
    padded = functional.pad(x, (r, r, r, r))
    total = torch.zeros_like(x, dtype=torch.float64)  # float32 would lose the sixth decimal
    difference, ring = torch.empty_like(x), torch.empty_like(x)
    for weight, offsets in _zone(k):
        ring.zero_()
        for dy, dx in offsets:
            neighbour = padded[:, r + dy : r + dy + height, r + dx : r + dx + width]
            ring += torch.sub(neighbour, x, out=difference).clamp_(min=0)
        total.add_(ring, alpha=weight)
    mean = functional.avg_pool2d(x[:, None], k, stride=1, padding=r)[:, 0]
    return (a * torch.exp(-mean) + b * total).to(x.dtype)


def check_rule(k: int, a: float, b: float) -> None:
    """ValueError unless k, the zone's side, is odd and positive, and a and b are finite numbers."""
    check_count("the zone's side k", k)
    if k % 2 == 0:
        raise ValueError(f"the zone's side k must be odd and positive, not {k}")
    check_number("a", a)
    check_number("b", b)


def inhibited(x: Tensor, k: int = 7, a: float = 0.1, b: float = 0.9) -> Tensor:
    """Equation 4: x (N, H, W) where it exceeds its L2-normalised inhibition, else 0; kept values are > 0."""
    return torch.where(x > l2_normalised(lateral_inhibition(x, k, a, b)), x, 0)


def l2_normalised(maps: Tensor) -> Tensor:
    """Maps (..., H, W) with L2 norm 1 each; a map of zeros stays so. Safe for values as small as 1e-30."""
    peak = maps.abs().amax((-2, -1), keepdim=True)
    scaled = maps / torch.where(peak > 0, peak, 1)
    norm = scaled.square().sum((-2, -1), keepdim=True).sqrt()
    return scaled / torch.where(norm > 0, norm, 1)


@dataclass(frozen=True)
class LayerSteps:
    """What happens at one ReLU for one image and class; all maps (H, W)."""

    max_c: Tensor  # the gradient's maximum over channels, as it enters the inhibition
    inhibition: Tensor  # L2-normalised
    kept: Tensor  # bool: the gate
    response: Tensor  # sum over channels after the second forward pass


class LICNN:
    """Attention maps of classes and saliency maps by lateral inhibition, for classifiers with ReLU modules.

    ``model`` takes images (N, C, H, W) and returns logits (``inputs.logits_of`` says in which forms); it must
    be in eval mode. Every call of an ``nn.ReLU`` or ``nn.ReLU6`` with a feature map that reaches the logits
    is used (``is_feature_map``), shared and in-place ones too; activations called as functions are not seen
    (``classifiers.as_classifier`` makes them modules). The first call looks for what is missed, and warns
    with the counts. Images are in any form that ``inputs.network_input`` reads.
    Hooks exist only while a method runs. ``preset`` is one of ``PRESETS``; each of its switches can be set by
    name. ``softmax`` back-propagates the class's probability, else its logit;
    ``a = b = 0`` turns the inhibition off, so that the gate keeps every positive gradient.
    ``batch_size`` bounds the images handled at once (the second pass takes each once a class, without a
    graph), and so the memory.
    """

    def __init__(
        self,
        model: nn.Module,
        preset: str = "normalised",
        batch_size: int | None = None,
        *,
        k: int = 7,
        a: float = 0.1,
        b: float = 0.9,
        softmax: bool = True,
        normalise_gradient: bool | None = None,
        mask_last: bool | None = None,
        normalise_layers: bool | None = None,
        interpolation: str | None = None,
    ) -> None:
        check_network(model)
        check_rule(k, a, b)
        if batch_size is not None:
            check_count("batch_size", batch_size)
        if preset not in tuple(PRESETS):
            raise ValueError(f"unknown preset {preset!r}; valid presets: {', '.join(PRESETS)}")
        chosen = {
            "normalise_gradient": normalise_gradient,
            "mask_last": mask_last,
            "normalise_layers": normalise_layers,
            "interpolation": interpolation,
        }
        named = {name: value for name, value in chosen.items() if value is not None}
        for name, value in (named | {"softmax": softmax}).items():
            if name != "interpolation" and not isinstance(value, bool):
                raise ValueError(f"{name} must be True or False, not {value!r}")
        self.switches: dict[str, object] = (
            PRESETS[preset] | named | {"k": k, "a": a, "b": b, "softmax": softmax}
        )
        if self.switches["interpolation"] not in ("nearest", "bilinear"):
            raise ValueError(f"interpolation must be 'nearest' or 'bilinear', not {interpolation!r}")
        self.model = model
        self.batch_size = batch_size
        self._looked = False  # whether the model's activations and logits have been looked at

    def attribute(self, images: Images, target: int | Sequence[int] | Tensor) -> Tensor:
        """Attention maps (N, H, W), L2 norm 1, of one class index an image (or one for all)."""
        images = image_batch(images, self.model)
        return self.attention_maps(images, target_classes(target, len(images))[:, None])[:, 0]

    def saliency_maps(self, images: Images, top: int = 5) -> Tensor:
        """Saliency maps (N, H, W), L2 norm 1: the sum of the ``top`` likeliest classes' attention maps, or of
        all where the network has fewer."""
        return l2_normalised(self.attention_maps(images, top=top).sum(1))

    def attention_maps(self, images: Images, classes: Tensor | None = None, top: int = 5) -> Tensor:
        """Attention maps (N, K, H, W), L2 norm 1, of classes (N, K), or of the ``top`` likeliest in order."""
        check_count("top", top)
        maps = []
        for batch, wanted in self._batches(images, classes):
            maps.append(self._attention(batch, wanted, top)[0])
        return torch.cat(maps)

    def gradient_based_maps(self, images: Images, classes: Tensor | None = None, top: int = 5) -> Tensor:
        """Cao et al.'s other kind of map, (N, K, H, W), L2 norm 1, with classes as in ``attention_maps``.

        Choice, since no formula is at hand: the inhibited Max-C maps themselves, each L2-normalised, resized
        and summed over the ReLUs, with no second forward pass.
        """
        check_count("top", top)
        maps = []
        for batch, wanted in self._batches(images, classes):
            max_c, _ = self._max_c(batch, wanted, top)
            kept = [l2_normalised(x * gate) for x, gate in zip(max_c, self._gates(max_c), strict=True)]
            maps.append(self._summed(kept, batch.shape[-2:]))
        return torch.cat(maps)

    def steps(self, images: Images, target: int | Sequence[int] | Tensor) -> list[LayerSteps]:
        """Every step at every ReLU, in forward order, for the first of ``images`` and its class."""
        images = image_batch(images, self.model)
        classes = target_classes(target, len(images))[:1, None]
        ((batch, wanted),) = self._batches(images[:1], classes)
        _, max_c, kept, responses = self._attention(batch, wanted, 1)
        k, a, b = (self.switches[name] for name in "kab")
        return [
            LayerSteps(
                x[0, 0], l2_normalised(lateral_inhibition(x[0], k, a, b))[0], gate[0, 0], response[0, 0]
            )
            for x, gate, response in zip(max_c, kept, responses, strict=True)
        ]

    def max_c_maps(self, images: Images, target: int | Sequence[int] | Tensor) -> list[Tensor]:
        """The maps (N, h, w) that enter the inhibition, one at every ReLU, for one class index an image."""
        images = image_batch(images, self.model)
        classes = target_classes(target, len(images))[:, None]
        parts = [self._max_c(batch, wanted, 1)[0] for batch, wanted in self._batches(images, classes)]
        return [torch.cat(layer)[:, 0] for layer in zip(*parts, strict=True)]

    def kept_shares(self, images: Images, target: int | Sequence[int] | Tensor) -> Tensor:
        """Share of locations that the gate keeps, (layers, N), for one class index an image."""
        gates = self._gates([x[:, None] for x in self.max_c_maps(images, target)])
        return torch.stack([gate[:, 0].float().mean((1, 2)) for gate in gates])

    def _batches(self, images: Images, classes: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
        images = image_batch(images, self.model)
        if self.model.training:
            raise ValueError("the model is in training mode: call model.eval(), or as_classifier(model)")
        classes = None if classes is None else classes_each(classes, len(images))
        for start in range(0, len(images), self.batch_size or len(images)):
            part = slice(start, start + (self.batch_size or len(images)))
            batch = network_input(images[part], self.model).contiguous(memory_format=torch.channels_last)
            yield batch, None if classes is None else classes[part]

    def _attention(
        self, images: Tensor, classes: Tensor | None, top: int
    ) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """Attention maps (N, K, H, W), and by layer the Max-C maps, gates and responses (N, K, h, w)."""
        max_c, reaching = self._max_c(images, classes, top)
        kept = self._gates(max_c)
        responses = self._masked_responses(images, kept, reaching)
        return self._summed(responses, images.shape[-2:]), max_c, kept, responses

    def _max_c(self, images: Tensor, classes: Tensor | None, top: int) -> tuple[list[Tensor], list[int]]:
        """One forward pass and a backward pass a class: the Max-C map (N, K, h, w) at every ReLU that reaches
        the logits, and the numbers of these among all calls of ReLUs with feature maps."""
        activations: list[Tensor] = []

        def record(module: nn.Module, inputs: object, output: Tensor) -> None:
            if is_feature_map(output):
                activations.append(output)

        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            frozen(self.model),
            relu_hooks(self.model, record),
        ):
            images = outside_inference(images).detach().requires_grad_()
            calls = None if self._looked else ActivationCalls(self.model, maps_only=True)
            with calls or nullcontext():
                logits = logits_of(self.model, images)
            if self.switches["softmax"] and logits.shape[1] == 1:
                raise ValueError(
                    "the softmax of a single logit is 1 for every image and has no gradient: explain the "
                    "logit (softmax=False), or give the network two"
                )
            if classes is None:
                classes = logits.detach().topk(min(top, logits.shape[1])).indices
            else:
                check_classes(classes, logits.shape[1])
                classes = outside_inference(classes).to(logits.device, torch.int64)
            scores = logits.softmax(1) if self.switches["softmax"] else logits
            totals = [scores.gather(1, column[:, None]).sum() for column in classes.T]
            maxima = _gradient_maxima(totals, activations)
        reaching = sorted(maxima[0])
        if calls or not reaching:
            self._look(calls, logits.detach(), len(reaching), len(activations))
        maps = [torch.stack([found[layer] for found in maxima], 1) for layer in reaching]
        maps = [l2_normalised(x) for x in maps] if self.switches["normalise_gradient"] else maps
        return maps, reaching

    def _look(self, calls: ActivationCalls | None, logits: Tensor, reaching: int, recorded: int) -> None:
        """What the first call looks at: which activations are used, and whether the answer is logits."""
        missed = calls.missed() if calls else {}
        if beside := recorded - reaching:
            missed |= {"in ReLUs from which no gradient path leads to the logits": beside}
        check_reached("LICNN", reaching, missed)
        if self.switches["softmax"] and _are_probabilities(logits):
            warnings.warn(
                "the network's answers look like probabilities, not logits, and LICNN takes their "
                "softmax once more: remove the network's own, or use softmax=False",
                stacklevel=2,
            )
        self._looked = True

    def _gates(self, max_c: list[Tensor]) -> list[Tensor]:
        """Gates, bool (N, K, h, w) a layer; layers of one size are inhibited together."""
        k, a, b = (self.switches[name] for name in "kab")
        sizes = defaultdict(list)
        for layer, x in enumerate(max_c):
            sizes[x.shape[-2:]].append(layer)
        gates = [None] * len(max_c)
        for layers in sizes.values():
            stack = torch.cat([max_c[layer].flatten(0, 1) for layer in layers])
            kept = (inhibited(stack, k, a, b) > 0).chunk(len(layers))
            for layer, gate in zip(layers, kept, strict=True):
                gates[layer] = gate.view_as(max_c[layer])
        return gates

    @torch.no_grad()
    def _masked_responses(self, images: Tensor, kept: list[Tensor], reaching: list[int]) -> list[Tensor]:
        """A forward pass with gated feature maps, of every image once a class: channel sums (N, K, h, w) at
        every ReLU that has a gate."""
        gates, sums, numbers = [gate.flatten(0, 1) for gate in kept], [], count()

        def mask(module: nn.Module, inputs: object, output: Tensor) -> Tensor | None:
            if not is_feature_map(output) or next(numbers) not in reaching:
                return None
            if len(sums) < len(gates) - 1 or self.switches["mask_last"]:
                output = output.mul_(gates[len(sums)][:, None])
            sums.append(output.sum(1))
            return output

        repeated = images.repeat_interleave(kept[0].shape[1], 0)
        with relu_hooks(self.model, mask):
            self.model(repeated.contiguous(memory_format=torch.channels_last))
        return [total.view(gate.shape) for total, gate in zip(sums, kept, strict=True)]

    def _summed(self, responses: list[Tensor], size: torch.Size) -> Tensor:
        """The layers' responses, resized to the input and summed: (N, K, H, W), L2 norm 1."""
        mode = self.switches["interpolation"]
        sizes: dict[torch.Size, Tensor] = {}
        for response in responses:
            response = l2_normalised(response) if self.switches["normalise_layers"] else response
            sizes[response.shape] = sizes.get(response.shape, 0) + response  # resizing is linear: sum first
        return l2_normalised(sum(functional.interpolate(x, size, mode=mode) for x in sizes.values()))


def _gradient_maxima(scores: Sequence[Tensor], activations: Sequence[Tensor]) -> list[dict[int, Tensor]]:
    """The maximum over channels of every score's gradient at the activations, by number, for each score.

    It is taken while the gradient passes by, so that no more than one has to be kept. A backward pass goes
    down to the first activation, and to those that do not lie on its paths to the score. Activations from
    which no path leads to the scores have no entry.
    """
    maxima: list[dict[int, Tensor]] = [{} for _ in scores]
    in_graph = [i for i, activation in enumerate(activations) if activation.requires_grad]
    ends, beside = in_graph[:1], set[int]()
    for score, found in zip(scores, maxima, strict=True):
        handles = [
            activations[i].register_hook(lambda gradient, i=i, kept=found: kept.update({i: gradient.amax(1)}))
            for i in in_graph
        ]
        try:
            _pass_back(score, [activations[i] for i in ends])
            missed = [i for i in in_graph if i not in found and i not in beside]
            _pass_back(score, [activations[i] for i in missed])
        finally:
            for handle in handles:
                handle.remove()
        ends += [i for i in missed if i in found]
        beside.update(i for i in missed if i not in found)
    return maxima


def _pass_back(score: Tensor, ends: list[Tensor]) -> None:
    if ends:
        torch.autograd.grad(score, ends, retain_graph=True, allow_unused=True)


def _are_probabilities(logits: Tensor) -> bool:
    return bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-3).all())


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No weight asks for gradients inside; afterwards each asks as before. ValueError for weights that no
    gradient can pass."""
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError(
            "the network was made in torch.inference_mode, where no gradient passes: make it outside"
        )
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
