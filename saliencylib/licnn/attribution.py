"""One call for all attribution methods: LICNN and those of captum that the paper compares it with."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from captum.attr import (
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Saliency,
)
from torch import Tensor, nn
from torch.nn import functional

from saliencylib.inputs import (
    Images,
    check_classes,
    check_count,
    check_number,
    check_seed,
    logits_of,
    network_input,
    outside_inference,
    target_classes,
)
from saliencylib.licnn.activations import ActivationCalls, check_reached, is_feature_map, relu_hooks
from saliencylib.licnn.method import LICNN, frozen, l2_normalised

METHODS = (
    "LICNN",
    "Gradient",
    "Gradient x Input",
    "Integrated Gradients",
    "SmoothGrad",
    "Guided Backprop",
    "Grad-CAM",
    "Guided Grad-CAM",
)
GUIDED = ("Guided Backprop", "Guided Grad-CAM")
VARIANTS = {  # of LICNN, by the switches that they change
    "LICNN": {},
    "LICNN, no inhibition": {"a": 0.0, "b": 0.0},
    "LICNN, before the softmax": {"softmax": False},
    "LICNN, last map unmasked": {"mask_last": False},
    "LICNN, layers not normalised": {"normalise_layers": False},
    "LICNN, nearest neighbour": {"interpolation": "nearest"},
    "LICNN, released code": {"preset": "released_code"},
    "LICNN, released code, no inhibition": {"preset": "released_code", "a": 0.0, "b": 0.0},
    "LICNN, released code, before the softmax": {"preset": "released_code", "softmax": False},
    "LICNN, released code, bilinear": {"preset": "released_code", "interpolation": "bilinear"},
    "LICNN, text": {"preset": "text"},
}
GRADIENT_BASED = "LICNN, gradient-based"  # Cao et al.'s other kind of map
EDGE_DETECTOR = "Edge detector"  # asks no classifier: what must not pass a sanity check


def attribute(
    method: str,
    model: nn.Module,
    images: Images,
    target: int | Sequence[int] | Tensor,
    *,
    batch_size: int | None = None,
    steps: int = 16,
    samples: int = 8,
    noise: float = 0.15,
    seed: int = 0,
    signed: bool = False,
    probability: bool = False,
) -> Tensor:
    """Attribution maps (N, H, W), L2 norm 1, for images (N, C, H, W) and one class index an image or for all.

    Images are in any form that ``inputs.network_input`` reads, the network's answer is one that
    ``inputs.logits_of`` reads.
    ``method`` is one of ``METHODS``, of ``VARIANTS`` of LICNN, ``GRADIENT_BASED``
    (``LICNN.gradient_based_maps``) or ``EDGE_DETECTOR`` (Sobel's gradient magnitude of the mean over colour
    channels), which looks at the images alone. LICNN explains the class's probability, the others its logit
    or, with ``probability``, that too. Maps sum the absolute values over colour channels, or with ``signed``
    the values themselves; LICNN and Grad-CAM are never negative. Integrated Gradients starts at zeros (grey)
    and takes ``steps`` steps; SmoothGrad averages ``samples`` gradients under Gaussian noise whose standard
    deviation is the share ``noise`` of the images' range, drawn from ``seed``. ``batch_size`` bounds the
    images handled at once.

    Raises ValueError for an unknown method, for counts below 1, for a negative noise or seed, for a model in
    training mode, and for what a method rests on and the network lacks: a way of gradients from the logits to
    the images, and for LICNN, Grad-CAM and the guided methods ReLU modules (a warning counts the activations
    that such a method misses). The guided methods need ``nn.ReLU`` modules that are called once each and not
    in place: use ``classifiers.load_classifier`` or ``as_classifier``.
    """
    if method not in (*METHODS, *VARIANTS, GRADIENT_BASED, EDGE_DETECTOR):
        raise ValueError(f"unknown method {method!r}; valid methods: {', '.join(METHODS)}")
    check_count("steps", steps)
    check_count("samples", samples)
    if batch_size is not None:
        check_count("batch_size", batch_size)
    check_number("noise", noise, 0)
    check_seed("seed", seed)
    with torch.inference_mode(False), torch.enable_grad():
        images = network_input(images, model).contiguous(memory_format=torch.channels_last)
        if method == EDGE_DETECTOR:
            return l2_normalised(_edges(images))
        if model.training:
            raise ValueError("the model is in training mode: call model.eval(), or as_classifier(model)")
        target = target_classes(target, len(images))
        if method == GRADIENT_BASED:
            return LICNN(model, batch_size=batch_size).gradient_based_maps(images, target[:, None])[:, 0]
        if method in VARIANTS:
            return LICNN(model, batch_size=batch_size, **VARIANTS[method]).attribute(images, target)
        spread = noise * float(images.max() - images.min())
        explained = _Explained(model, method, target, probability).eval()
        layer = last_feature_map(model, images) if "Grad-CAM" in method else None
        target = outside_inference(target).to(images.device)
        maps = []
        for start in range(0, len(images), batch_size or len(images)):
            part = slice(start, start + (batch_size or len(images)))
            # captum announces its temporary hooks and gradient flags with warnings
            with warnings.catch_warnings(), torch.random.fork_rng(), frozen(model):
                warnings.simplefilter("ignore", UserWarning)
                torch.manual_seed(seed + start)
                explain = _captum(method, explained, layer, len(images[part]), steps, samples, spread)
                values = explain(images[part].detach().clone().requires_grad_(), target[part]).detach()
            maps.append(l2_normalised(values.sum(1) if signed else values.abs().sum(1)))
        explained.check()
        return torch.cat(maps)


class _Explained(nn.Module):
    """A network as captum gets it, from images to the logits or probabilities, and what its first call
    showed of it."""

    def __init__(self, model: nn.Module, method: str, target: Tensor, probability: bool) -> None:
        super().__init__()
        self.model, self.method, self.target, self.probability = model, method, target, probability
        self.calls: ActivationCalls | None = None

    def forward(self, images: Tensor) -> Tensor:
        calls = ActivationCalls(self.model, maps_only=self.method == "Grad-CAM") if not self.calls else None
        with calls or nullcontext():
            logits = logits_of(self.model, images)
        if calls:
            self.calls = calls
            check_classes(self.target, logits.shape[1])
            if self.probability and logits.shape[1] == 1:
                raise ValueError("the probability of a single logit is 1 for every image: explain the logit")
        return logits.softmax(1) if self.probability else logits

    def check(self) -> None:
        """Whether the activations that the method rests on are those of the network."""
        if self.method in (*GUIDED, "Grad-CAM"):
            reached, missed = self.calls.called, self.calls.missed()
            if self.method in GUIDED:  # captum hooks nn.ReLU alone
                clamped = [relu for relu in reached if not isinstance(relu, nn.ReLU)]
                reached = {relu: number for relu, number in reached.items() if relu not in clamped}
                if clamped:
                    missed["in ReLU6 modules (as_classifier makes ReLUs of them)"] = len(clamped)
            check_reached(self.method, sum(reached.values()), missed)


def _edges(images: Tensor) -> Tensor:
    """Sobel's gradient magnitude (N, H, W) of the mean over channels of images (N, 3, H, W)."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None].to(images)
    grey = functional.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(grey, kernels).square().sum(1).sqrt()


def _captum(
    method: str,
    model: nn.Module,
    layer: nn.Module | None,
    batch: int,
    steps: int,
    samples: int,
    spread: float,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The function from images and targets to attributions (N, C, H, W)."""

    def forward(x: Tensor) -> Tensor:  # captum's stacks of images lose the layout that convolutions like
        return model(x.contiguous(memory_format=torch.channels_last))

    match method:
        case "Gradient":
            return lambda x, t: Saliency(forward).attribute(x, t, abs=False)
        case "Gradient x Input":
            return lambda x, t: InputXGradient(forward).attribute(x, t)
        case "Integrated Gradients":
            explainer = IntegratedGradients(forward)
            return lambda x, t: explainer.attribute(
                x, target=t, n_steps=steps, internal_batch_size=max(batch, 8)
            )
        case "SmoothGrad":
            tunnel = NoiseTunnel(Saliency(forward))
            return lambda x, t: tunnel.attribute(
                x, nt_samples=samples, nt_samples_batch_size=1, stdevs=spread, target=t, abs=False
            )
        case "Guided Backprop":
            return lambda x, t: GuidedBackprop(model).attribute(x, t)
    if method == "Guided Grad-CAM":
        return lambda x, t: GuidedGradCam(model, layer).attribute(x, t, interpolate_mode="bilinear")
    return lambda x, t: functional.interpolate(
        LayerGradCam(model, layer).attribute(x, t, relu_attributions=True),
        x.shape[-2:],
        mode="bilinear",
    )


def last_feature_map(model: nn.Module, images: Tensor) -> nn.Module:
    """The last ReLU module that reaches the logits and whose output still has a place for every feature
    (N, C, h, w): Grad-CAM's layer.

    Raises ValueError when there is none.
    """
    found: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        if is_feature_map(output) and output.requires_grad:
            found.append((module, output))

    calls = ActivationCalls(model, maps_only=True)
    with torch.enable_grad(), frozen(model), relu_hooks(model, note), calls:
        total = logits_of(model, images[:1].detach().clone().requires_grad_()).sum()
        for module, output in reversed(found):
            if torch.autograd.grad(total, output, retain_graph=True, allow_unused=True)[0] is not None:
                return module
    check_reached("Grad-CAM", 0, calls.missed())
