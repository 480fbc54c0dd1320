"""The SHA-256 of datasets that ``zoo dataset generate`` makes with its usual settings, so that anybody can compare."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from agents.common.files.npz import read_npz, read_npz_headers
from zoo.datasets.names import DatasetSpec

TRANSITIONS = 100_000
SHA256 = {
    "pointmaze-medium-navigate-v0": "712db2de8363314edf21a6ae4342a2dbc9c45c1aae1ce27c7f4f64ac74156ad6",
    "pointmaze-large-navigate-v0": "13cbc749236f23e884003a3a4a1ec9af5579584e88693d7e02377bb57b0f591a",
    "pointmaze-teleport-navigate-v0": "1abd40b957946d789fc747bda5ccc6c392e348a4da5123113dad0658e780fe2b",
    "pointmaze-giant-navigate-v0": "fe4fc851dfdcb765265181aaab7f88905679d802e6c9a49363216c80fea344ac",
    "pointmaze-medium-stitch-v0": "dc32505bd07fe969afbebd403bb0bef0dbbe7fce01dd1b63057b9c014c6cf58e",
    "pointmaze-large-stitch-v0": "8a1ed76066d7d4fc5a7e13b299326b374292943243867ac54933c0af887effc3",
    "pointmaze-giant-stitch-v0": "b74d685fcc95e3fd0fb488da567a87745fb7fd1bc7ddd699ab1410ed07093d1c",
    "pointmaze-teleport-stitch-v0": "962065bb994ac243141b0866f57675e57e804cc14a0c1ab25a8f5a6d61b72ee9",
    "cube-single-play-v0": "2d0754e69a940ea05db0a93754a4ef21184d66bf4dca5784b6dc29c3dd35eeef",
    "cube-double-play-v0": "16121ba27236aee885726a36037d2679995f25f5fd51341b2d1cb890a72cd7be",
    "scene-play-v0": "93f679dde00a334eac34e30ec16657bd3e444b7e29c67dd8b750b7df8a717d66",
    "puzzle-3x3-play-v0": "b1daab5cd8712fa45a929dc4ba36f726411d1968dd76f4a68fc9278709acccef",
    "puzzle-4x4-play-v0": "3c5f0aa4af13557f84b9f02fc82673d25f6f7e9b5b9365d46a7c1bc53436c9ec",
    "cube-triple-play-v0": "0c866fe231c186800d4d7a37399be52f93f118e303158770816885333affddb8",
}
"""Of the content of the training file: seed 0, OGBench 1.2.2, MuJoCo 4.0.0."""


def digest_of_first(path: Path, rows: int) -> str:
    """Return the SHA-256 of the first rows of all arrays: of the content, whatever library compressed the file."""
    digest = hashlib.sha256()
    for name in sorted(read_npz_headers(path)):
        array = read_npz(path, [name])[name][:rows]
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def is_standard(path: Path, spec: DatasetSpec) -> bool | None:
    """Return whether a training file begins with the standard set; None where it cannot be told.

    Episodes do not depend on how many there are, so the standard set is the beginning of every larger one.
    """
    rows = TRANSITIONS // spec.steps * (spec.steps + 1)
    if spec.name not in SHA256 or read_npz_headers(path)["observations"][0][0] < rows:
        return None
    return digest_of_first(path, rows) == SHA256[spec.name]
