"""Exact resumption of training: network, optimiser and logged numbers in one safetensors file."""

from contextlib import AbstractContextManager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from saliencylib import cache


def save(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer | None,
    epoch: int,
    log: dict[str, list[float]],
) -> None:
    """Write everything that training needs to go on after ``epoch`` finished epochs, all or nothing.

    ``log`` holds lists of numbers by name; they are kept in float64. Without an optimiser, after the last
    epoch, the file is a third as large and can be read but not trained further.
    """
    tensors = {"epoch": torch.tensor(epoch)}
    tensors |= {f"log/{name}": torch.tensor(values, dtype=torch.float64) for name, values in log.items()}
    tensors |= {f"model/{name}": value.contiguous() for name, value in model.state_dict().items()}
    state_dict = optimiser.state_dict()["state"] if optimiser else {}
    for index, state in state_dict.items():
        for name, value in state.items():
            tensors[f"optimiser/{index}/{name}"] = torch.as_tensor(value).contiguous()
    cache.write(path, lambda temporary: save_file(tensors, temporary))


def restore(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, dict[str, list[float]]]:
    """Load a checkpoint into ``model`` and ``optimiser``; the finished epochs and the log.

    Gives (0, {}) and changes nothing when there is no checkpoint or it cannot be read.
    """
    try:
        tensors = load_file(path, device=str(next(model.parameters()).device))
    except (OSError, SafetensorError):
        return 0, {}
    model.load_state_dict(_part(tensors, "model/"))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in _part(tensors, "optimiser/").items():
        index, field = name.split("/")
        state.setdefault(int(index), {})[field] = value.cpu() if field == "step" else value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    log = {name: values.cpu().tolist() for name, values in _part(tensors, "log/").items()}
    return int(tensors["epoch"]), log


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()


def mixed_precision(device: torch.device) -> AbstractContextManager:
    """bfloat16 autocast where the device has it natively, else plain float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device))


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
