"""Writers of episodes that fail, in a module that their processes import quickly."""

from dataclasses import replace

from zoo.datasets.generate import MazeWriter
from zoo.datasets.names import DATASETS


class StoppingWriter(MazeWriter):
    """Fails after three episodes."""

    done = 0

    def play(self, reset_seed, action_seed):
        self.done += 1
        if self.done > 3:
            raise ArithmeticError("no more")
        return super().play(reset_seed, action_seed)


def make_stopping(dataset, seed, steps):
    return StoppingWriter(replace(DATASETS[dataset], steps=steps), seed)


class BrokenWriter:
    def __init__(self, dataset, seed, steps):
        raise ArithmeticError("no physics today")
