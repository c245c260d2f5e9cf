"""The ReLUs of a network: hooks on all of them, and each made a module of its own, called once."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from saliencylib.inputs import answer_of


class ClampedReLU(nn.ReLU):
    """ReLU6 as a kind of ``nn.ReLU``, the only class that captum's guided methods hook."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu6(input)


_AS_FUNCTIONS = {functional.relu: nn.ReLU, functional.relu_: nn.ReLU, torch.relu: nn.ReLU}
_AS_FUNCTIONS |= {torch.relu_: nn.ReLU, functional.relu6: ClampedReLU}
_AS_METHODS = {"relu": nn.ReLU, "relu_": nn.ReLU}


# Activations that no hook on a ReLU sees. Sigmoids are none: they are gates.
_NAMES = (
    "celu",
    "elu",
    "gelu",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "mish",
    "prelu",
    "rrelu",
    "selu",
    "silu",
)
_OTHERS = {getattr(functional, name) for name in (*_NAMES, "softplus", "elu_", "hardtanh_", "leaky_relu_")}
_OTHERS |= {torch.tanh, Tensor.tanh}


def _relus(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]


@contextmanager
def relu_hooks(model: nn.Module, hook: Callable) -> Iterator[None]:
    """Call ``hook(module, inputs, output)`` after every ReLU or ReLU6 module of ``model`` while inside.

    What it returns, if anything, replaces the output. The hooks are gone afterwards whatever happens.
    """
    handles = [module.register_forward_hook(hook) for module in _relus(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_feature_map(output: Tensor) -> bool:
    """Whether an activation (N, C, h, w) has more than one place; full layers and channel gates have not."""
    return output.ndim == 4 and output.shape[2:].numel() > 1


def separate_activations(model: nn.Module, size: int = 224, channels: int = 3) -> nn.Module:
    """The same function with every ReLU and ReLU6 a module of its own, called once, and not in place.

    Modules are replaced in ``model`` itself. Where one is called several times, or ``torch.relu`` is called
    as a function, the network is traced with torch.fx (for inputs (1, channels, size, size)) and the trace is
    returned. Raises ValueError when even that leaves a shared activation, or when the network does not take
    such inputs.
    """
    _replace_modules(model)
    weight = next(model.parameters(), torch.empty(0))
    blank = torch.zeros(1, channels, size, size, dtype=weight.dtype, device=weight.device)
    try:
        if _each_called_once(model, blank):
            return model
    except ValueError as error:
        remedy = "give as_classifier what it takes, such as Preprocess(side=32, crop=32)"
        raise ValueError(f"{error}; {remedy}, for grey images with one mean and one std") from error
    try:
        traced = _trace(model)
    except Exception as error:  # control flow that depends on data makes fx raise many types
        raise ValueError(
            "some ReLUs are functions or used more than once, and torch.fx cannot trace this network (does "
            "its forward ask for values?): give each activation a ReLU module of its own"
        ) from error
    if not _each_called_once(traced, blank):
        raise ValueError("activations are still shared after tracing: use modules for all of them")
    return traced.eval()


def _replace_modules(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU6 | ClampedReLU):
            setattr(module, name, ClampedReLU())
        elif isinstance(child, nn.ReLU):
            setattr(module, name, nn.ReLU())
        else:
            _replace_modules(child)


class ActivationCalls(TorchFunctionMode):
    """Counts a network's activations while inside: what its ReLU modules do, and what escapes them.

    ``called`` counts the calls of each ReLU or ReLU6 module, ``functions`` those of ReLU as a function or
    tensor method, ``others`` those of other activations by name, in modules or not. With ``maps_only`` only
    calls with feature maps count (``is_feature_map``).
    """

    def __init__(self, model: nn.Module, maps_only: bool = False) -> None:
        super().__init__()
        self.called: Counter[nn.Module] = Counter()
        self.functions, self.others = 0, Counter()
        self._maps_only = maps_only
        self._relus = _relus(model)
        self._inside = 0  # a ReLU module calls the function itself

    def __enter__(self) -> "ActivationCalls":
        self._handles = [relu.register_forward_pre_hook(self._begin) for relu in self._relus]
        self._handles += [relu.register_forward_hook(self._end) for relu in self._relus]
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def _begin(self, module: nn.Module, inputs: object) -> None:
        self._inside += 1

    def _end(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self._inside -= 1
        self.called[module] += self._counts(output)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        relu = func in _AS_FUNCTIONS or func in (Tensor.relu, Tensor.relu_)
        if (relu or func in _OTHERS) and not self._inside and self._counts(output):
            if relu:
                self.functions += 1
            else:
                self.others[func.__name__] += 1
        return output

    def _counts(self, output: Tensor) -> bool:
        return is_feature_map(output) or not self._maps_only

    def missed(self) -> dict[str, int]:
        """The activations that hooks on ReLU modules do not reach, counted by the reason."""
        never = sum(relu not in self.called for relu in self._relus)
        reasons = {
            "in ReLU modules that are never called": never,
            "in calls of relu as a function (as_classifier makes modules of them)": self.functions,
            f"of another kind ({', '.join(self.others)})": self.others.total(),
        }
        return {reason: count for reason, count in reasons.items() if count}


def check_reached(method: str, reached: int, missed: Mapping[str, int]) -> None:
    """Whether ``method``, which changes the activations that it reaches, reaches them: ValueError where it
    reaches none, a warning with the counts where it misses some."""
    counts = ", ".join(f"{count} {reason}" for reason, count in missed.items())
    if not reached:
        found = f"; its activations are {counts}" if counts else ""
        raise ValueError(
            f"{method} reaches nothing: this network calls no ReLU module on which it could work{found}. "
            "Make modules of relu functions by as_classifier(model); a network without ReLUs (ViT, ConvNeXt, "
            "SiLU) needs another method, such as Integrated Gradients or SmoothGrad"
        )
    if counts:
        total = reached + sum(missed.values())
        warnings.warn(f"{method} reaches {reached} of {total} activations; not those {counts}", stacklevel=3)


@torch.no_grad()
def _each_called_once(model: nn.Module, blank: Tensor) -> bool:
    with ActivationCalls(model) as calls:
        answer_of(model, blank)
    return all(count == 1 for count in calls.called.values()) and not calls.functions


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        padded_convolution = isinstance(m, nn.Conv2d | nn.BatchNorm2d)  # timm's, with their own control flow
        return padded_convolution or super().is_leaf_module(m, module_qualified_name)


def _trace(model: nn.Module) -> fx.GraphModule:
    """The network as a graph in which every call of a ReLU is a module ``activation_<number>``."""
    graph = _Tracer().trace(model)
    traced = fx.GraphModule(model, graph)
    for number, node in enumerate(list(graph.nodes)):
        kind = _relu_called(node, traced)
        if kind is not None:
            traced.add_submodule(f"activation_{number}", kind())
            given = node.args[0] if node.args else node.kwargs["input"]
            with graph.inserting_before(node):
                own = graph.call_module(f"activation_{number}", (given,))
            node.replace_all_uses_with(own)
            graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _relu_called(node: fx.Node, traced: fx.GraphModule) -> type[nn.ReLU] | None:
    """The kind of ReLU that a node of the graph calls as module, function or method, if it does."""
    if node.op == "call_module":
        module = traced.get_submodule(node.target)
        return type(module) if isinstance(module, nn.ReLU) else None
    by_target = {"call_function": _AS_FUNCTIONS, "call_method": _AS_METHODS}
    return by_target.get(node.op, {}).get(node.target)
