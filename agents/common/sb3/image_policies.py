"""Policies under SB3's names for images and for Dict observations, and encoders under the references' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN

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


def with_encoder(name: str | None, policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy's arguments with the encoder that a name stands for.

    :param name: one of `ENCODERS`; None leaves the arguments as they are.
    :param policy_kwargs: the other arguments.
    :return: all of them.
    :raises ValueError: if the arguments have a features extractor of their own.
    """
    if name is None:
        return dict(policy_kwargs)
    if "features_extractor_class" in policy_kwargs:
        raise ValueError(
            f"`encoder` and `features_extractor_class` both say what sees images, got {name!r} and "
            f"{policy_kwargs['features_extractor_class'].__name__}; give one of them"
        )
    own = ENCODERS[name] | policy_kwargs.get("features_extractor_kwargs", {})
    return {**policy_kwargs, "features_extractor_class": ImpalaEncoder, "features_extractor_kwargs": own}
