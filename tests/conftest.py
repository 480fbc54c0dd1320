"""Shared test set-up."""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # tests compare CPU numbers; GPU checks ask for their device
import pytest
import torch

from agents.common import products

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives, above all beside other processes


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send every product that can go there to oneDNN, whatever the processor and the size."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("needs oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda of_weights=False: True)
    monkeypatch.setattr(products, "ONEDNN_WORK", 0)
    monkeypatch.setattr(products, "ONEDNN_ROWS", 0)
