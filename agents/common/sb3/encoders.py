"""The image encoder of OGBench's and FQL's implementations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from agents.common.nets.mlp import StackedMLP, fill_uniform

ONE_BY_ONE = {"cpu"}
"""Devices on which replicas are encoded one by one, so that activations fit in the cache; GPUs are faster with few
large kernels."""


class ImpalaEncoder(BaseFeaturesExtractor):
    """The residual convolutional network of IMPALA, then one dense layer with GELU.

    Each stage is a convolution, a max-pooling that halves height and width, and a residual block of two convolutions.
    The defaults give `impala_small`, the encoder of OGBench's visual tasks. Parameters have a leading replica axis S.

    Source: Espeholt et al., "IMPALA", arXiv 1802.01561, Figure 3; ``impls/utils/encoders.py`` of OGBench, identical to
    ``utils/encoders.py`` of FQL. Differences: images are scaled to [0, 1] before the encoder.

    :param observation_space: space of images (channels, height, width).
    :param features_dim: size of the output.
    :param widths: channels of each stage.
    :param replicas: S, set by the policy.
    :raises ValueError: if observations are not images.

    >>> camera = spaces.Box(0, 255, (3, 64, 64), np.uint8)
    >>> ImpalaEncoder(camera)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 512])

    Select it with ``encoder="impala_small"`` or, for other sizes, with SB3's ``policy_kwargs``:

    >>> options = {"features_extractor_class": ImpalaEncoder, "features_extractor_kwargs": {"features_dim": 256}}
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        features_dim: int = 512,
        widths: Sequence[int] = (16, 32, 32),
        replicas: int = 1,
    ) -> None:
        super().__init__(observation_space, features_dim)
        if not is_image_space(observation_space, normalized_image=True):
            raise ValueError(f"`ImpalaEncoder` needs images (C, H, W), got {observation_space}")
        self.replicas = replicas
        channels, *sides = observation_space.shape
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for width in widths:
            for inputs in (channels, width, width):
                self.weights.append(nn.Parameter(torch.zeros(replicas, width, inputs, 3, 3)))
                self.biases.append(nn.Parameter(torch.zeros(replicas, width)))
            channels = width
            # the pooling rounds up
            sides = [-(-side // 2) for side in sides]
        self.mlp = StackedMLP(
            (replicas,), [channels * math.prod(sides), features_dim], activate_final=True
        )

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Sample one replica's weights from a CPU generator, Xavier-uniform; biases stay zero."""
        for weight in self.weights:
            # fan-in plus fan-out, each times the kernel's area, as in Flax
            fans = weight[0, :, 0].numel() + weight[0, 0].numel()
            fill_uniform(weight, replica, math.sqrt(6.0 / fans), generator)
        self.mlp.initialise(replica, generator)

    def forward(self, observations: Tensor) -> Tensor:
        """Encode images in [0, 1], one replica's after the other, (S * B, channels, height, width), to (S * B, F)."""
        together = 1 if observations.device.type in ONE_BY_ONE else self.replicas
        # one group of replicas per entry: (1 or S, B, channels, height, width)
        images = observations.unflatten(0, (self.replicas, -1)).split(together)
        weights = zip(*(weight.split(together) for weight in self.weights), strict=True)
        biases = zip(*(bias.split(together) for bias in self.biases), strict=True)
        # each (1 or S, B, channels * height * width)
        rows = list(map(self._convolve, images, weights, biases))
        features: Tensor = self.mlp(rows[0] if len(rows) == 1 else torch.cat(rows))
        return features.flatten(0, 1)

    def _convolve(
        self, images: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> Tensor:
        """Apply the convolutions to images (S, B, channels, height, width); return (S, B, features)."""
        groups = len(images)
        # replicas become groups of channels, (B, S * channels, height, width)
        x = images.transpose(0, 1).flatten(1, 2)
        layers = iter(zip(weights, biases, strict=True))

        def convolve(x: Tensor) -> Tensor:
            weight, bias = next(layers)
            return F.conv2d(x, weight.flatten(0, 1), bias.flatten(), padding=1, groups=groups)

        for _ in range(len(weights) // 3):  # stages
            x = convolve(x)
            # padding as in the references: a pixel at both ends of an axis of odd length, else only at the far end
            x = F.max_pool2d(x, 3, 2, padding=(x.shape[-2] % 2, x.shape[-1] % 2), ceil_mode=True)
            x = x + convolve(convolve(x.relu()).relu())
        return x.relu().unflatten(1, (groups, -1)).transpose(0, 1).flatten(2)
