"""Observations as rows of numbers: layout of images, dicts and discrete values, and inputs of features extractors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import get_obs_shape, is_image_space
from torch import Tensor
from torch.nn.functional import one_hot

from agents.common.batch import Batch

Array = NDArray[Any]

ROUNDING = 2.0**-22
"""Two units in the last place of a float32, relative to its magnitude."""
CROP_PIXELS = 3
"""Largest shift of random crops, in pixels, as in FQL's implementation."""
PARTS = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


class SpaceSlice(NamedTuple):
    """One part of an observation: its space, and its columns in a row.

    :param key: name in a Dict space; empty if the observation is not a dict.
    :param space: the space.
    :param shape: shape of its values before flattening, from SB3's `get_obs_shape`.
    :param columns: its columns in a row.
    :param is_image: whether SB3 treats it as an image.
    :param count: number of possible values, 0..count-1, of each discrete variable or pixel; a list if the values become
        one-hot vectors; None for real numbers.
    """

    key: str
    space: PARTS
    shape: tuple[int, ...]
    columns: slice
    is_image: bool
    count: Any


class ObservationLayout:
    """Conversion of observations to rows (B, O) for replay buffer and networks, and back.

    Rows store unscaled values: a flattened Box, the index of a discrete value, the concatenated parts of a Dict. Rows
    that contain only images are uint8; all others are float32.

    :param space: a Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict of such spaces.
    :param normalize_images: whether features extractors receive images in [0, 1].

    >>> layout = ObservationLayout(spaces.Box(0, 255, (3, 64, 64), np.uint8))
    >>> layout.size, layout.dtype
    (12288, torch.uint8)
    """

    def __init__(self, space: spaces.Space[Any], normalize_images: bool = True) -> None:
        self.space = space
        self.normalize_images = normalize_images
        self.is_dict = isinstance(space, spaces.Dict)
        self.parts: list[SpaceSlice] = []
        self.size = 0
        named_parts: Mapping[str, Any] = {"": space}
        if isinstance(space, spaces.Dict):
            named_parts = space.spaces
        for key, part in named_parts.items():
            shape: Any = get_obs_shape(part)
            columns = slice(self.size, self.size + math.prod(shape))
            is_image = is_image_space(part)
            count: Any = 256 if is_image else None
            if isinstance(part, spaces.Discrete):
                count = [int(part.n)]
            elif isinstance(part, spaces.MultiDiscrete):
                count = part.nvec.tolist()
            elif isinstance(part, spaces.MultiBinary):
                count = 2
            self.parts.append(SpaceSlice(key, part, shape, columns, is_image, count))
            self.size = columns.stop
        self.holds_images = all(part.is_image for part in self.parts)
        """Whether rows contain only images."""
        self.dtype = torch.uint8 if self.holds_images else torch.float32
        self.is_plain = isinstance(space, spaces.Box) and not self.holds_images
        """Whether networks read rows directly, without a features extractor."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one observation in a dataset's array: (O,) for a Dict, else the shape of its only part."""
        if self.is_dict:
            return (self.size,)
        return self.parts[0].shape

    def flatten(self, observations: Any) -> Array:
        """Return observations as rows.

        :param observations: arrays or tensors (B, ...), or a dict of them; channels of images are first or last.
        :return: (B, O).
        """
        values = observations if self.is_dict else {"": observations}
        dtype = np.uint8 if self.holds_images else np.float32
        rows = []
        for part in self.parts:
            value = values[part.key]
            if isinstance(value, Tensor):
                value = value.detach().cpu().numpy()
            array = np.asarray(value).astype(dtype, copy=False)
            if part.is_image:
                array = channels_first(array, part.shape)
            rows.append(array.reshape(-1, math.prod(part.shape)))
        if len(rows) == 1:
            return rows[0]  # without a copy, because datasets of images are large
        return np.concatenate(rows, -1)

    def observations(self, rows: Any) -> Any:
        """Convert rows (..., O), an array or a tensor, to observations (..., *shape)."""
        leading = rows.shape[:-1]
        values = {}
        for part in self.parts:
            values[part.key] = rows[..., part.columns].reshape(*leading, *part.shape)
        return values if self.is_dict else values[""]

    def sample(self, count: int, seed: int = 0) -> Any:
        """Sample observations of the space: arrays (count, *shape), or a dict of them."""
        space = batch_space(self.space, count)
        space.seed(seed)
        # huge samples become 1 or -1, since some spaces have the largest floats as bounds
        return map_parts(lambda x: np.where(np.abs(x) > 1e6, x.clip(-1, 1), x), space.sample())

    def to_extractor_input(self, rows: Tensor) -> Any:
        """Convert rows (B, O) to float32 inputs of SB3's features extractors; discrete values become one-hot."""
        # not by SB3's `preprocess_obs`, which the compiler rejects for images and discrete values
        inputs = {}
        for part in self.parts:
            values = rows[..., part.columns].float()
            if isinstance(part.count, list):
                indices = values.long().unbind(-1)
                values = torch.cat([*map(one_hot, indices, part.count)], -1).float()
            elif part.shape:
                values = values.unflatten(-1, part.shape)
            if part.is_image and self.normalize_images:
                values = values / 255
            inputs[part.key] = values
        return inputs if self.is_dict else inputs[""]

    def shifted(self, rows: Tensor, shift_y: Tensor, shift_x: Tensor) -> Tensor:
        """Shift the images in rows, with repeated edges; other parts are unchanged.

        :param rows: (..., O).
        :param shift_y: vertical shift of each image in pixels, integers (...): image line `shift_y` becomes line 0.
        :param shift_x: the same for columns.
        :return: (..., O).
        """
        columns = []
        for part in self.parts:
            values = rows[..., part.columns]
            if part.is_image:
                values = _shift(values.unflatten(-1, part.shape), shift_y, shift_x).flatten(-3)
            columns.append(values)
        return torch.cat(columns, -1)

    def refuse_unknown_values(self, observations: Any, noun: str = "an observation") -> None:
        """Raise for discrete values and pixels outside their space: a cast would change them silently.

        :param observations: arrays (n, ...), or a dict of them.
        :param noun: name of the observations in the message.
        :raises ValueError: for an invalid value.
        """
        arrays = observations if self.is_dict else {"": observations}
        for part in self.parts:
            array = arrays[part.key]
            if part.count is None or (part.is_image and array.dtype == np.uint8):
                continue
            values = array.reshape(-1, math.prod(part.shape))
            wrong = (values < 0) | (values >= part.count) | (values % 1 != 0)
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                raise ValueError(
                    f"{noun} must be in {part.space}, got {values[row, column]:g} in row {row}"
                )

    def with_rows(self, dataset: Mapping[str, Any]) -> Mapping[str, Any]:
        """Convert dict observations of a dataset to rows.

        :param dataset: arrays by name, or dicts of arrays for Dict observations.
        :return: the dataset, with dicts replaced by arrays (n, O).
        :raises ValueError: if a part is missing or has the wrong shape, or images are not uint8.
        """
        arrays = dict(dataset)
        for name in ("observations", "next_observations"):
            parts = dataset.get(name)
            if not (self.is_dict and isinstance(parts, Mapping)):
                continue
            for part in self.parts:
                array = np.asarray(parts.get(part.key))
                has_kind = True
                if part.is_image:
                    has_kind = array.dtype == np.uint8  # the scale of other dtypes is unknown
                    array = channels_first(array, part.shape)
                has_shape = array.shape[1:] in (part.shape, part.space.shape) and array.ndim
                if not (has_kind and has_shape):
                    raise ValueError(
                        f"dataset array `{name}` must contain `{part.key}` of shape (n, *{part.shape}), uint8 for "
                        f"images, got {array.dtype} of shape {array.shape}; the environment's space is {part.space}"
                    )
            arrays[name] = self.flatten(parts)
        return arrays


def map_parts(function: Callable[[Any], Any], observations: Any) -> Any:
    """Apply a function to observations, or to each part of a dict of them."""
    if isinstance(observations, dict):
        return {key: function(part) for key, part in observations.items()}
    return function(observations)


def centre_and_factor(
    observations: Tensor, scale: float | Literal["range"]
) -> tuple[Tensor, Tensor]:
    """Return the centre and the scaling factor of each observation coordinate.

    :param observations: (B, O).
    :param scale: standard deviation after scaling; ``"range"`` scales to [-1, 1].
    :return: centre and factor, (O,) each; the factor of a constant coordinate is 1.
    """
    low, high = torch.aminmax(observations, dim=0)
    largest = torch.maximum(low.abs(), high.abs())
    if scale == "range":
        # halved before the subtraction, because the difference of the largest floats overflows
        spread, centre, target = high / 2 - low / 2, low / 2 + high / 2, 1.0
    else:
        spread, centre = torch.std_mean(observations, dim=0, correction=0)
        target = scale
    # a spread of one or two units in the last place is a rounding error; a factor above 1e30 would overflow
    changes = spread > (ROUNDING * largest).clamp(min=1e-30)
    return centre, torch.where(changes, target / torch.where(changes, spread, 1.0), 1.0)


def channels_first(images: Array, shape: tuple[int, ...]) -> Array:
    """Return a view of images (n, height, width, channels) with the channels first; other shapes are unchanged.

    :param images: images of a dataset.
    :param shape: shape of one image, (channels, height, width).
    :return: (n, channels, height, width) if the shapes match.
    """
    # images with equal height, width and channels fit both layouts, and are unchanged
    if images.shape[1:] != shape and images.shape[1:] == (*shape[1:], shape[0]):
        return np.moveaxis(images, -1, 1)
    return images


def crop_images(
    batch: Batch, noise: Mapping[str, Tensor], probability: float, layout: ObservationLayout
) -> Batch:
    """Shift the images of a batch at random.

    :param batch: the batch.
    :param noise: uniform noise: ``crop`` (S,) decides whether a replica's images are shifted, ``crop_y`` and
        ``crop_x`` (S, B) by how much.
    :param probability: probability of a shift.
    :param layout: layout of the observations.
    :return: the batch with shifted observations.
    """
    is_cropped = (noise["crop"] < probability).unsqueeze(-1)  # (S, 1)
    positions = 2 * CROP_PIXELS + 1
    shift_y = ((noise["crop_y"] * positions).long() - CROP_PIXELS) * is_cropped
    shift_x = ((noise["crop_x"] * positions).long() - CROP_PIXELS) * is_cropped
    return batch.with_observations(lambda rows: layout.shifted(rows, shift_y, shift_x))


def _shift(images: Tensor, shift_y: Tensor, shift_x: Tensor) -> Tensor:
    """Shift images (..., channels, height, width) by numbers of pixels (...)."""
    height, width = images.shape[-2:]
    lines = torch.arange(height, device=images.device) + shift_y.unsqueeze(-1)
    columns = torch.arange(width, device=images.device) + shift_x.unsqueeze(-1)
    # pixels beyond an edge repeat the edge
    y = lines.clamp(0, height - 1)[..., None, :, None]
    x = columns.clamp(0, width - 1)[..., None, None, :]
    return images.take_along_dim(y, -2).take_along_dim(x, -1)
