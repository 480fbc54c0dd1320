"""Kernels with the same rounding on every x86-64 processor, for generated data.

OpenBLAS and NumPy choose their kernels by the processor, and kernels of different families round differently. Both
read an environment variable when they are imported, so only a new process can have other kernels.
"""

import contextlib
import ctypes
import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

from agents.common.processor import cpuinfo

COMMON_KERNEL = "Haswell"  # what every x86-64 processor with AVX2 can run


def common_kernels() -> dict[str, str]:
    """Return the environment variables of a process with the kernels that all x86-64 processors with AVX2 share.

    Empty on other processors, which have no such kernels.
    """
    if "avx2" not in cpuinfo("flags").split():
        return {}
    return {
        "OPENBLAS_CORETYPE": COMMON_KERNEL,
        "NPY_DISABLE_CPU_FEATURES": " ".join(_avx512_features()),
    }


def _avx512_features() -> list[str]:
    """Return the names of NumPy's groups of AVX-512 instructions, which change with its versions."""
    return [
        name for name in _multiarray_umath.__cpu_dispatch__ if "AVX512" in name or name == "X86_V4"
    ]


def describe_rounding(packages: Iterable[str]) -> dict[str, Any]:
    """Return the processor, libraries and kernels that decide this process's rounding, as plain values.

    :param packages: packages whose versions count too, besides Python and NumPy.
    :return: ``has_common_kernels`` says whether the process has those of :func:`common_kernels`.
    """
    features = _multiarray_umath.__cpu_features__
    kernel = None
    with contextlib.suppress(AttributeError, OSError):  # where NumPy has another library
        corename = ctypes.CDLL(_multiarray_umath.__file__).scipy_openblas_get_corename64_
        corename.restype = ctypes.c_char_p
        kernel = str(corename().decode())
    has_avx512 = any(features[name] for name in _avx512_features())
    has_common_kernel = kernel == COMMON_KERNEL and features.get("AVX2", False)
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    for package in packages:
        versions[package] = version(package)
    return {
        "processor": cpuinfo("model name") or platform.processor() or None,
        "c_library": " ".join(platform.libc_ver()),
        "blas_kernel": kernel,
        "has_common_kernels": has_common_kernel and not has_avx512,
        "versions": versions,
    }
