"""Writers of episodes that fail, in a module that their processes import quickly."""

from zoo.datasets.generate import MazeWriter


class StoppingWriter(MazeWriter):
    """Fails after three episodes."""

    done = 0

    def play(self, reset_seed, action_seed):
        self.done += 1
        if self.done > 3:
            raise ArithmeticError("no more")
        return super().play(reset_seed, action_seed)


class BrokenWriter:
    def __init__(self, spec, seed):
        raise ArithmeticError("no physics today")
