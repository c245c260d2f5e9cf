"""Where things lie: the project, the data root, the cache, and what runs write.

Needs nothing but Python itself. A relative path in an environment variable is taken from the project's folder,
so that notebooks, tests and the command line mean one place.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def data_root() -> Path:
    """The folder below which all data sets lie: ``$SALIENCY_DATA``, else ``data`` in the project."""
    return _from_environment("SALIENCY_DATA", "data")


def cache_root() -> Path:
    """The folder of kept results and checkpoints: ``$SALIENCY_CACHE``, else ``.cache`` in the project."""
    return _from_environment("SALIENCY_CACHE", ".cache")


def results_root() -> Path:
    """The folder of run folders: ``$SALIENCY_RESULTS``, else ``results`` in the project."""
    return _from_environment("SALIENCY_RESULTS", "results")


def _from_environment(variable: str, default: str) -> Path:
    return ROOT / Path(os.environ.get(variable) or default).expanduser()
