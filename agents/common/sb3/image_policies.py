"""Policies under SB3's names for images and for Dict observations, and encoders under the references' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule

from agents.common.method import Method
from agents.common.sb3.arguments import SETTINGS_OF_POLICY
from agents.common.sb3.encoders import ImpalaEncoder
from agents.common.sb3.policy import FlowPolicy

ENCODERS: dict[str, dict[str, Any]] = {
    "impala_small": {},
    "impala": {"blocks": 2},
    "impala_debug": {"widths": [4, 4]},
    "impala_large": {"blocks": 2, "widths": [64, 128, 128], "features_dim": 1024},
}
"""Names of the references -> arguments of :class:`ImpalaEncoder`."""


class CnnFlowPolicy(FlowPolicy):
    """A policy of images: each network sees them through SB3's ``NatureCNN``, unless another extractor is given."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{"features_extractor_class": NatureCNN, **named})


class MultiInputFlowPolicy(FlowPolicy):
    """A policy of Dict observations: each network sees them through SB3's ``CombinedExtractor`` or a given one."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{"features_extractor_class": CombinedExtractor, **named})


POLICIES: dict[str, type[BasePolicy]] = {
    "MlpPolicy": FlowPolicy,
    "CnnPolicy": CnnFlowPolicy,
    "MultiInputPolicy": MultiInputFlowPolicy,
}
"""By SB3's names."""


def make_policy(
    kind: type[Any],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    lr_schedule: Schedule,
    method: Method,
    seeds: Sequence[int] | None,
    policy_kwargs: Mapping[str, Any] | None,
) -> FlowPolicy:
    """Return the policy of a model, with the encoder that the setting names.

    :param kind: its class.
    :param observation_space: of the environment.
    :param action_space: of the environment.
    :param lr_schedule: learning rate as a function of the remaining progress.
    :param method: the algorithm.
    :param seeds: one seed per replica, or None.
    :param policy_kwargs: the model's argument of that name, in which settings of the method are left out.
    :return: the policy.
    :raises ValueError: if both `encoder` and a features extractor are given.
    """
    given = {name: value for name, value in (policy_kwargs or {}).items() if name not in SETTINGS_OF_POLICY}
    if method.encoder is not None:
        if "features_extractor_class" in given:
            raise ValueError(
                f"`encoder` and `features_extractor_class` both say what sees images, got {method.encoder!r} and "
                f"{given['features_extractor_class'].__name__}; give one of them"
            )
        own = ENCODERS[method.encoder] | given.get("features_extractor_kwargs", {})
        given |= {"features_extractor_class": ImpalaEncoder, "features_extractor_kwargs": own}
    policy: FlowPolicy = kind(observation_space, action_space, lr_schedule, method, seeds, **given)
    return policy
