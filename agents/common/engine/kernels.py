"""One C++ file for all kernels of a compiled graph.

PyTorch's compiler writes one file per kernel. For each file, g++ spends most of its time on headers and linking, so 60
kernels compile in a sixth of the time if they are in a single file. While g++ compiles it, PyTorch goes on to the next
graph. The functions, and therefore the results, are the same.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from typing import Any

INCLUDES = ("Python.h", "sstream", "cstdlib", "cerrno", "torch/csrc/inductor/cpp_prefix.h")
"""All headers that kernels and bindings use; after them, the kernels' own includes, inside namespaces, do nothing."""


def compiler_options() -> dict[str, Any]:
    """Return the options of `torch.compile` for compiling each graph to one file."""
    if joined_compile() is None:
        return {}
    return {
        # a single file reads the headers only once; precompiling them takes longer
        "cpp_cache_precompile_headers": False,
        # instruction sets are read from the processor's flags, not tested by compiling a program for each
        "cpp.vec_isa_ok": True,
    }


@contextlib.contextmanager
def joining() -> Iterator[None]:
    """Within the block, compile the kernels of a graph as one C++ file, even for a graph from the compiler's cache."""
    from torch._functorch import config
    from torch._inductor import async_compile

    original = async_compile.AsyncCompile
    async_compile.AsyncCompile = joined_compile() or original  # type: ignore[misc]
    try:
        # the graph of the gradients is compiled without waiting for the losses, whose kernels g++ compiles meanwhile
        with config.patch(force_non_lazy_backward_lowering=True):
            yield
    finally:
        async_compile.AsyncCompile = original  # type: ignore[misc]


@functools.cache
def joined_compile() -> Any:
    """Return the class that compiles a graph's kernels as one file; None if it does not fit this PyTorch."""
    # importing the compiler takes seconds, and only training needs it
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.codecache import CppPythonBindingsCodeCache

    if "{call_entry_func}" not in CppPythonBindingsCodeCache.suffix_template:
        return None

    class JoinedCompile(AsyncCompile):
        """Collects a graph's kernels, and starts to compile them when the graph's program waits for them."""

        load: Callable[[], Any]
        """Waits for the compiled file, and loads the first kernel."""

        def __init__(self) -> None:
            super().__init__()
            self.sources: list[str] = []

        def cpp_pybinding(self, argtypes: list[str], source_code: str) -> Callable[..., None]:
            """Add a kernel.

            :param argtypes: C++ types of the kernel's arguments.
            :param source_code: a function named `kernel`.
            :return: the kernel, which is loaded at its first call.
            """
            # the first is `kernel`, since this is the kernel that PyTorch loads from a compiled file
            name = f"kernel{len(self.sources) or ''}"
            types = [argtype.replace("const ", "") for argtype in argtypes]
            arguments = [f"parse_arg<{type}>(args, {index})" for index, type in enumerate(types)]
            binding = CppPythonBindingsCodeCache.suffix_template.format(
                entry_func=name,
                arg_len=len(types),
                call_entry_func=f"{name}({', '.join(arguments)}); Py_RETURN_NONE;",
                extra_parse_arg="",
            )
            # a namespace for each kernel, since all bindings define the same helpers
            kernel = source_code.replace(" kernel(", f" {name}(")
            self.sources.append(f"namespace {name} {{\n{kernel}{binding}}}\n")

            @functools.cache
            def loaded() -> Callable[..., None]:
                return load_kernel(self.load().__file__, name)

            return lambda *arguments: loaded()(*arguments)

        def wait(self, scope: dict[str, Any]) -> None:
            """Start to compile the kernels; the first call of a kernel waits until they are compiled.

            :param scope: the program's variables.
            """
            if self.sources:
                includes = "".join(f"#include <{header}>\n" for header in INCLUDES)
                source = includes + "".join(self.sources)
                thread = ThreadPoolExecutor(1)
                self.load = CppPythonBindingsCodeCache.load_async(source, submit_fn=thread.submit)
                thread.shutdown(wait=False)
            super().wait(scope)

    return JoinedCompile


def load_kernel(path: str, name: str) -> Callable[..., None]:
    """Return a kernel of a compiled file; the file is imported as one module per kernel."""
    loader = ExtensionFileLoader(name, path)
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=path))
    loader.exec_module(module)
    kernel: Callable[..., None] = getattr(module, name)
    return kernel
