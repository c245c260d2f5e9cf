"""One call for all attribution methods: LICNN and those of captum that the paper compares it with."""

import warnings
from collections.abc import Callable, Sequence

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

from saliencylib.licnn.activations import is_feature_map, relu_hooks
from saliencylib.licnn.method import LICNN, l2_normalised

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
    images: Tensor,
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
    """Attribution maps (N, H, W), L2 norm 1, for images (N, 3, H, W) and one class index an image or for all.

    ``method`` is one of ``METHODS``, of ``VARIANTS`` of LICNN, ``GRADIENT_BASED``
    (``LICNN.gradient_based_maps``) or ``EDGE_DETECTOR`` (Sobel's gradient magnitude of the mean over colour
    channels), which looks at the images alone. LICNN explains the class's probability, the others its logit
    or, with ``probability``, that too. Maps sum the absolute values over colour channels, or with ``signed``
    the values themselves; LICNN and Grad-CAM are never negative. Integrated Gradients starts at zeros (grey)
    and takes ``steps`` steps; SmoothGrad averages ``samples`` gradients under Gaussian noise whose standard
    deviation is the share ``noise`` of the images' range, drawn from ``seed``. ``batch_size`` bounds the
    images handled at once.

    Raises ValueError for an unknown method. The guided methods need ``nn.ReLU`` modules that are called once
    each and not in place: use ``classifiers.load_classifier`` or ``as_classifier``.
    """
    if method not in (*METHODS, *VARIANTS, GRADIENT_BASED, EDGE_DETECTOR):
        raise ValueError(f"unknown method {method!r}; valid methods: {', '.join(METHODS)}")
    device = next(model.parameters()).device
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    target = torch.as_tensor(target).to(device).expand(len(images))
    if method == EDGE_DETECTOR:
        return l2_normalised(_edges(images))
    if method == GRADIENT_BASED:
        return LICNN(model, batch_size=batch_size).gradient_based_maps(images, target[:, None])[:, 0]
    if method in VARIANTS:
        return LICNN(model, batch_size=batch_size, **VARIANTS[method]).attribute(images, target)
    model = nn.Sequential(model, nn.Softmax(1)).eval() if probability else model
    spread = noise * float(images.max() - images.min())
    maps = []
    for start in range(0, len(images), batch_size or len(images)):
        part = slice(start, start + (batch_size or len(images)))
        # captum announces its temporary hooks and gradient flags with warnings
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore", UserWarning)
            torch.manual_seed(seed + start)
            explain = _captum(method, model, images[part], steps, samples, spread)
            values = explain(images[part].detach().clone().requires_grad_(), target[part]).detach()
        maps.append(l2_normalised(values.sum(1) if signed else values.abs().sum(1)))
    return torch.cat(maps)


def _edges(images: Tensor) -> Tensor:
    """Sobel's gradient magnitude (N, H, W) of the mean over channels of images (N, 3, H, W)."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None].to(images)
    grey = functional.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(grey, kernels).square().sum(1).sqrt()


def _captum(
    method: str, model: nn.Module, images: Tensor, steps: int, samples: int, spread: float
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
                x, target=t, n_steps=steps, internal_batch_size=max(len(images), 8)
            )
        case "SmoothGrad":
            tunnel = NoiseTunnel(Saliency(forward))
            return lambda x, t: tunnel.attribute(
                x, nt_samples=samples, nt_samples_batch_size=1, stdevs=spread, target=t, abs=False
            )
        case "Guided Backprop":
            return lambda x, t: GuidedBackprop(model).attribute(x, t)
    layer = last_feature_map(model, images)
    if method == "Guided Grad-CAM":
        return lambda x, t: GuidedGradCam(model, layer).attribute(x, t, interpolate_mode="bilinear")
    return lambda x, t: functional.interpolate(
        LayerGradCam(model, layer).attribute(x, t, relu_attributions=True),
        x.shape[-2:],
        mode="bilinear",
    )


@torch.no_grad()
def last_feature_map(model: nn.Module, images: Tensor) -> nn.Module:
    """The last ReLU module whose output still has a place for every feature (N, C, h, w): Grad-CAM's layer.

    Raises ValueError when there is none.
    """
    found: list[nn.Module] = []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        if is_feature_map(output):
            found.append(module)

    with relu_hooks(model, note):
        model(images[:1])
    if not found:
        raise ValueError("this network calls no ReLU module with a feature map (N, C, H, W)")
    return found[-1]
