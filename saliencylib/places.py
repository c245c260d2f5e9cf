"""Where things lie: the project, the data root, the cache, and what runs write.

Needs nothing but Python itself. ``HOME`` is the project's folder, or, where the library was installed without
it, ``.saliencylib`` in the user's; what no environment variable places lies below it.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT if (ROOT / "notebooks").is_dir() else Path.home() / ".saliencylib"


def data_root() -> Path:
    """The folder below which all data sets lie: ``$SALIENCY_DATA``, else ``data`` below ``HOME``."""
    return _from_environment("SALIENCY_DATA", "data")


def cache_root() -> Path:
    """The folder of kept results and checkpoints: ``$SALIENCY_CACHE``, else ``.cache`` below ``HOME``."""
    return _from_environment("SALIENCY_CACHE", ".cache")


def results_root() -> Path:
    """The folder of run folders: ``$SALIENCY_RESULTS``, else ``results`` below ``HOME``."""
    return _from_environment("SALIENCY_RESULTS", "results")


def given(path: str | Path) -> Path:
    """A path that a user gave, absolute: from the working folder on, with ``~`` for the user's own."""
    return Path(os.path.expanduser(path)).absolute()


def environment() -> dict[str, str]:
    """The variables of the three folders, for a process whose working folder is another."""
    roots = {"SALIENCY_DATA": data_root(), "SALIENCY_CACHE": cache_root(), "SALIENCY_RESULTS": results_root()}
    return {variable: str(root) for variable, root in roots.items()}


def _from_environment(variable: str, default: str) -> Path:
    value = os.environ.get(variable)
    return given(value) if value else HOME / default
