"""Where things lie: the project, the data root, the cache, and what runs write.

Needs nothing but Python itself. ``HOME`` is the project's folder, or, where the library was installed without
it, ``.saliencylib`` in the user's. A relative path in an environment variable is taken from there, so that
notebooks, tests and the command line mean one place.
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


def _from_environment(variable: str, default: str) -> Path:
    return HOME / Path(os.environ.get(variable) or default).expanduser()
