"""Kernels in compiled graphs."""

import shutil

import pytest
import torch
from torch.testing import assert_close

from agents.common.engine import kernels
from tests.common.toys import normals


def two_kernels(x):
    return torch.cumsum(x.sin() @ x, 0).cos()


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_graph_has_one_file_of_all_its_kernels(tmp_path):
    from torch._inductor import async_compile
    from torch._inductor.utils import fresh_cache

    x = normals(48, 48)
    original = async_compile.AsyncCompile
    with fresh_cache(dir=tmp_path, delete=False), kernels.joining():
        result = torch.compile(two_kernels, options=kernels.compiler_options())(x)
    assert_close(result, two_kernels(x))
    (file,) = tmp_path.rglob("*.main.cpp")
    assert file.read_text().count("PyInit_kernel") == 2
    assert async_compile.AsyncCompile is original
