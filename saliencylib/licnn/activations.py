"""The ReLUs of a network: hooks on all of them, and each made a module of its own, called once."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class ClampedReLU(nn.ReLU):
    """ReLU6 as a kind of ``nn.ReLU``, the only class that captum's guided methods hook."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu6(input)


_AS_FUNCTIONS = {functional.relu: nn.ReLU, functional.relu_: nn.ReLU, torch.relu: nn.ReLU}
_AS_FUNCTIONS |= {torch.relu_: nn.ReLU, functional.relu6: ClampedReLU}
_AS_METHODS = {"relu": nn.ReLU, "relu_": nn.ReLU}


@contextmanager
def relu_hooks(model: nn.Module, hook: Callable) -> Iterator[None]:
    """Call ``hook(module, inputs, output)`` after every ReLU or ReLU6 module of ``model`` while inside.

    What it returns, if anything, replaces the output. The hooks are gone afterwards whatever happens.
    """
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
    handles = [module.register_forward_hook(hook) for module in relus]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_feature_map(output: Tensor) -> bool:
    """Whether an activation (N, C, h, w) has more than one place; full layers and channel gates have not."""
    return output.ndim == 4 and output.shape[2:].numel() > 1


def separate_activations(model: nn.Module, size: int = 224) -> nn.Module:
    """The same function with every ReLU and ReLU6 a module of its own, called once, and not in place.

    Modules are replaced in ``model`` itself. Where one is called several times, or ``torch.relu`` is called
    as a function, the network is traced with torch.fx (for inputs (1, 3, size, size)) and the trace is
    returned. Raises ValueError when even that leaves a shared activation.
    """
    _replace_modules(model)
    if _each_called_once(model, size):
        return model
    try:
        traced = _trace(model)
    except Exception as error:  # control flow that depends on data makes fx raise many types
        raise ValueError("activations are shared and torch.fx cannot trace this network") from error
    if not _each_called_once(traced, size):
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


class _CountFunctions(TorchFunctionMode):
    """Counts calls of ReLU as a function or tensor method, those inside nn.ReLU modules included."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in _AS_FUNCTIONS or func in (Tensor.relu, Tensor.relu_)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def _each_called_once(model: nn.Module, size: int) -> bool:
    calls: Counter[nn.Module] = Counter()
    parameter = next(model.parameters(), torch.empty(0))
    blank = torch.zeros(1, 3, size, size, dtype=parameter.dtype, device=parameter.device)
    with relu_hooks(model, lambda module, *_: calls.update([module])), _CountFunctions() as functions:
        model(blank)
    return all(count == 1 for count in calls.values()) and functions.count == sum(calls.values())


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
