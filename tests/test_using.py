"""The code of README.md and USING.md runs as it stands, in one go, on photographs at hand."""

import re

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut, chelsea

from saliencylib.places import ROOT


@pytest.mark.parametrize(("file", "made"), {"README.md": "where.png", "USING.md": "squeezenet.png"}.items())
def test_code_runs_as_it_stands(file, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photographs").mkdir()
    for name, pixels in {"holiday": chelsea, "photographs/a": astronaut, "photographs/b": chelsea}.items():
        Image.fromarray(pixels()).save(f"{name}.jpg")
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / file).read_text(encoding="utf-8"), flags=re.DOTALL)
    # Weights of others are a download: here the networks stay as they were drawn.
    code = "\n".join(blocks).replace('weights="DEFAULT"', "weights=None")
    code = code.replace("pretrained=True", "pretrained=False")
    names = {}
    exec(compile(code, file, "exec"), names)
    assert np.ptp(np.asarray(names["attention"])) > 0
    assert Image.open(tmp_path / made).size[0] > 200
    if file == "USING.md":
        assert names["table"][["nss", "auc_judd"]].notna().all(axis=None) and len(names["table"]) == 2
        assert names["logits"].shape == (2, 10)
