"""A recorder of operations that replaces CUDA graphs, and models with and without it."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents.common.engine.execution import Mode
from agents.common.sb3.model import FlowAlgorithm
from tests.common.toys import parameters_of, tiny_model, toy_dataset


class Tape(TorchDispatchMode):
    """Records operations together with the tensors on which they ran."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, result in self.operations:
            inputs = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
            addresses = {tensor.data_ptr() for tensor in inputs}
            output = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(output), strict=True):
                # views of inputs, and in-place results, are up to date already
                if isinstance(old, Tensor) and old.data_ptr() not in {*addresses, new.data_ptr()}:
                    old.copy_(new)


class TapeRecorder:
    """Replaces CUDA graph capture, which runs nothing, so the effects of recorded operations are undone."""

    model: FlowAlgorithm

    def __call__(self, step, device, generators):
        policy = self.model.policy
        moments = tree_leaves(list(policy.optimizer.state.values()))
        tensors = [*policy.parameters(), *policy.buffers(), *moments]
        values = [tensor.clone() for tensor in tensors]
        generators = list(self.model.trainer.generators().values())
        states = [generator.get_state() for generator in generators]
        with Tape() as tape:
            info = step()
        with torch.no_grad():
            torch._foreach_copy_(tensors, values)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        return tape.replay, info


def loaded_model(id="qam", **settings):
    model = tiny_model(id, **settings)
    model.load_dataset(toy_dataset())
    return model


def plain_model(id="qam", **settings):
    """Return a model whose updates are not captured, despite the fixture."""
    model = loaded_model(id, **settings)
    model.trainer.prepare()
    model.trainer._use(Mode(False, False, "test"))
    model.trainer.prepare = lambda: None
    return model


def update(model, count=1, size=16):
    """Update a model and return the information of the last update."""
    for _ in range(count):
        info = model.trainer.update(size)
    return info


def assert_alike(first, second):
    # a step is about 3e-4; a learning rate on the device is rounded to float32, and a GPU sums in another order
    rtol, atol = (1e-3, 1e-4) if first.device.type == "cuda" else (1e-4, 2e-6)
    torch.testing.assert_close(parameters_of(first), parameters_of(second), rtol=rtol, atol=atol)
