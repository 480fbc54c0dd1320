"""What the constructor of a model takes besides the settings of its method: SB3's own, and where things run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.noise import ActionNoise

from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.sb3.spaces import available_device
from agents.common.settings import Declared, required, setting
from agents.common.validation import integer

if TYPE_CHECKING:  # names that only annotations need
    from stable_baselines3.common.type_aliases import GymEnv

    from agents.common.sb3.policy import FlowPolicy


def _seeds(name: str, value: Any) -> list[int] | None:
    if value is not None and not len(value):
        raise ValueError(f"`{name}` must hold at least one seed, got none; use None for one run with `seed`")
    return None if value is None else [integer(name, each) for each in value]


class Arguments(Declared):
    """Constructor arguments that are not settings of the method."""

    if TYPE_CHECKING:
        _policy: str | type[FlowPolicy] = required(alias="policy", kw_only=False)
        _env: GymEnv | str | None = required(alias="env", kw_only=False)

    n_steps: int | None = setting(
        default=None,
        at_least=1,
        doc="SB3's name for n-step returns of single actions: the same as `horizon_length=n_steps` with "
        "`action_chunking=False`; None leaves both as they are.",
    )
    action_noise: ActionNoise | None = setting(default=None, doc="SB3's, added to the executed actions.")
    replay_buffer_class: type[SequenceReplayBuffer] | None = setting(
        default=None, doc="A subclass of `SequenceReplayBuffer`, or None for itself."
    )
    replay_buffer_kwargs: dict[str, Any] | None = setting(
        default=None, doc='Further arguments of the buffer; `{"storage": "host"}` keeps the data off the GPU.'
    )
    optimize_memory_usage: bool = setting(
        default=False, doc="Accepted for SB3; next observations are never stored twice."
    )
    policy_kwargs: dict[str, Any] | None = setting(
        default=None,
        doc="Arguments of the policy. In it SB3's `net_arch` and `n_critics` are the settings `net_arch` and "
        "`ensemble_size`.",
    )
    stats_window_size: int = setting(default=100, doc="Episodes over which rollout statistics are averaged.")
    tensorboard_log: str | None = setting(default=None, doc="Folder of TensorBoard events, or None.")
    verbose: int = setting(default=0, doc="0 silent, 1 info, 2 debug.")
    seed: int | None = setting(default=None, doc="Seed of everything random, or None.")
    seeds: Sequence[int] | None = setting(
        default=None, check=_seeds, doc="One seed per replica, trained at once; None trains one replica with `seed`."
    )
    device: torch.device | str = setting(
        default="auto", check=lambda _, value: available_device(value), doc='`"auto"`, `"cpu"`, `"cuda"`...'
    )
    _init_setup_model: bool = setting(
        default=True, doc="Build networks and buffer at once; `load` does it later.", check=lambda _, value: value
    )
