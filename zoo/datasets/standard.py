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
