"""Train with a known fault planted in our code, as a porting slip would be, for `reference_ranks.py` to find."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from agents.common.engine import trainer
from agents.core import Info
from zoo import train


def targets_after_step() -> None:
    """Move the target networks towards the weights from after the step, not from before it."""
    apply = trainer.Trainer.apply_gradients

    def faulty(self: trainer.Trainer, gradients: Sequence[Tensor | None], info: Info) -> None:
        plan = self.plan
        self.plan = replace(plan, polyak_pairs=[])
        apply(self, gradients, info)
        self.plan = plan
        with torch.no_grad():
            for weight, online, target in plan.polyak_pairs:
                torch._foreach_lerp_(target, online, weight)

    trainer.Trainer.apply_gradients = faulty  # type: ignore[method-assign]


def no_clipping() -> None:
    """Take the gradient as it is."""
    clip = trainer.clip_gradients

    def faulty(gradients: list[Tensor], groups: trainer.ClipGroups, replicas: int) -> Tensor:
        return clip(gradients, [(None, places) for _, places in groups], replicas)

    trainer.clip_gradients = faulty


FAULTS: dict[str, Callable[[], None]] = {
    "targets_after_step": targets_after_step,
    "no_clipping": no_clipping,
}


def main(words: Sequence[str]) -> int:
    """Plant the fault that the first word names, and run the training program on the others; return its exit code."""
    FAULTS[words[0]]()
    return train.main(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
