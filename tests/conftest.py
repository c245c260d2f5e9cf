import os
from pathlib import Path

import pytest
import torch


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder instead of the project's."""
    monkeypatch.setenv("SALIENCY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def real_data():
    """The data root with real data, or skip."""
    root = os.environ.get("SALIENCY_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs real data: set SALIENCY_DATA to its folder")
    return Path(root)


@pytest.fixture
def in_process(monkeypatch):
    """Work side by side stays in this process: quicker for small things, and patches reach it."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
