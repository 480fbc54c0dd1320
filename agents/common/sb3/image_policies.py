"""Policies under SB3's names for images and for Dict observations."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN

from agents.common.sb3.policy import FlowPolicy


class CnnFlowPolicy(FlowPolicy):
    """A policy of images: each network sees them through SB3's ``NatureCNN``, unless another extractor is given."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{"features_extractor_class": NatureCNN, **named})


class MultiInputFlowPolicy(FlowPolicy):
    """A policy of Dict observations: each network sees them through SB3's ``CombinedExtractor`` or a given one."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{"features_extractor_class": CombinedExtractor, **named})
