"""A recorder of operations in place of a CUDA graph, and models with and without it."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents.common.engine.execution import Mode
from agents.common.engine.trainer import clip_gradients
from agents.common.sb3.model import FlowAlgorithm
from tests.common.toys import parameters_of, tiny_model, toy_dataset


class Tape(TorchDispatchMode):
    """Records operations with their very tensors."""

    def __init__(self):
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    def replay(self):
        with torch.no_grad():
            for func, args, kwargs, result in self.operations:
                inputs = {
                    t.data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)
                }
                output = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(output), strict=True):
                    if (
                        isinstance(old, Tensor)
                        and old.data_ptr() not in inputs
                        and old.data_ptr() != new.data_ptr()
                    ):
                        old.copy_(new)


class TapeRecorder:
    """Stands for the recording of a CUDA graph: what recording runs here is undone."""

    model: FlowAlgorithm

    def __call__(self, step, device, generators):
        policy, generators = self.model.policy, list(self.model.trainer.generators().values())
        moments = [value for values in policy.optimizer.state.values() for value in values.values()]
        tensors = [*policy.parameters(), *policy.buffers(), *moments]
        values, states = (
            [tensor.clone() for tensor in tensors],
            [generator.get_state() for generator in generators],
        )
        with Tape() as tape:
            info = step()
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        return tape.replay, info


def norms_of(gradients, replicas=1):
    """Return each replica's norm over all gradients."""
    return clip_gradients(gradients, [(None, [*range(len(gradients))])], replicas)


def made(id="qam", **settings):
    model = tiny_model(id, **settings)
    model.load_dataset(toy_dataset())
    return model


def assert_same(first, second):
    # a step is 3e-4; a learning rate on the device is rounded to float32
    torch.testing.assert_close(parameters_of(first), parameters_of(second), rtol=1e-4, atol=2e-6)


def made_plain(id="qam", **settings):
    """Return a model that is not captured, although the fixture captures all."""
    model = made(id, **settings)
    model.trainer._use(Mode(False, False, "test"))
    model.trainer.prepare = lambda: None
    return model
