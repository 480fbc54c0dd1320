"""Observations as rows of numbers: how images, dicts and choices are stored, and what a features extractor gets."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import get_obs_shape, is_image_space, preprocess_obs
from torch import Tensor

from agents.common.batch import Batch

Array = NDArray[Any]

ROUNDING = 2.0**-22
"""Two units in the last place of a float32, relative to its size."""
CROP_PIXELS = 3
"""By how many pixels random crops shift images at most, as in FQL's implementation."""
PARTS = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


class SpaceSlice(NamedTuple):
    """One space of an observation, and which columns of a row hold it.

    :param key: its name in a Dict space; empty where the observation is this space alone.
    :param space: the space.
    :param shape: of its values in an environment's observation, and in a features extractor's input if it is a Box.
    :param columns: where it is in a row.
    :param is_image: whether SB3 takes it for an image.
    :param count: number of values of each choice or pixel, which are whole numbers from 0 on; None for other numbers.
    """

    key: str
    space: PARTS
    shape: tuple[int, ...]
    columns: slice
    is_image: bool
    count: Any


class ObservationLayout:
    """How observations of a space become rows (B, O) for the replay buffer and the networks, and what becomes of them.

    Rows hold the values as the environment gives them: a Box flattened, a choice as its number, the parts of a Dict one
    after the other. Images stay uint8 if there is nothing else in the observation; other rows are float32.

    :param space: a Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict of such spaces.
    :param normalize_images: whether a features extractor gets images in [0, 1].
    """

    def __init__(self, space: spaces.Space[Any], normalize_images: bool = True) -> None:
        self.space = space
        self.normalize_images = normalize_images
        self.is_dict = isinstance(space, spaces.Dict)
        self.parts: list[SpaceSlice] = []
        self.size = 0
        named_parts: Mapping[str, Any] = (
            space.spaces if isinstance(space, spaces.Dict) else {"": space}
        )
        for key, part in named_parts.items():
            shape: Any = get_obs_shape(part)
            columns = slice(self.size, self.size + math.prod(shape))
            is_image = is_image_space(part)
            count = 256 if is_image else getattr(part, "nvec", None)
            if isinstance(part, spaces.Discrete):
                count = part.n
            self.parts.append(SpaceSlice(key, part, shape, columns, is_image, count))
            self.size = columns.stop
        self.holds_images = all(part.is_image for part in self.parts)
        """Whether there is nothing else in a row."""
        self.dtype = torch.uint8 if self.holds_images else torch.float32
        self.numpy_dtype = np.uint8 if self.holds_images else np.float32
        self.is_plain = isinstance(space, spaces.Box) and not self.holds_images
        """Whether rows are what networks see, so that nothing needs to be extracted."""

    def _by_key(self, values: Any) -> Mapping[str, Any]:
        """Return what an observation has for each part."""
        if self.is_dict:
            return values
        return {"": values}

    def _from_keys(self, values: dict[str, Any]) -> Any:
        """Return the observation whose parts have these values."""
        if self.is_dict:
            return values
        return values[""]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one observation in a dataset's array: its own, or (O,) where a Dict is made a row."""
        if self.is_dict:
            return (self.size,)
        return self.parts[0].shape

    def flatten(self, observations: Any) -> Array:
        """Return observations as rows.

        :param observations: arrays or tensors (B, ...), by name in a Dict space; the channels of images first or last.
        :return: (B, O).
        """
        values = self._by_key(observations)
        rows = []
        for part in self.parts:
            value = values[part.key]
            if isinstance(value, Tensor):
                value = value.detach().cpu().numpy()
            array = np.asarray(value).astype(self.numpy_dtype, copy=False)
            if part.is_image:
                array = channels_first(array, part.shape)
            rows.append(array.reshape(-1, math.prod(part.shape)))
        if len(rows) == 1:
            return rows[0]  # without a copy: a dataset of images is large
        return np.concatenate(rows, -1)

    def observations(self, rows: Any) -> Any:
        """Return rows (..., O), an array or a tensor, as the environment's observations (..., *shape)."""
        leading = rows.shape[:-1]
        return self._from_keys(
            {
                part.key: rows[..., part.columns].reshape(*leading, *part.shape)
                for part in self.parts
            }
        )

    def sample(self, count: int, seed: int = 0) -> Any:
        """Return random observations of the space: arrays (count, *shape), by name in a Dict space."""
        values = {}
        for part in self.parts:
            space = copy.deepcopy(part.space)
            space.seed(seed + part.columns.start)  # others than those of another part
            drawn = np.stack([space.sample() for _ in range(count)])
            # some spaces name the largest floats as their bounds
            values[part.key] = np.where(np.abs(drawn) > 1e6, np.sign(drawn), drawn)
        return self._from_keys(values)

    def to_extractor_input(self, rows: Tensor) -> Any:
        """Return rows (B, O) as SB3's features extractors take them: images in [0, 1], choices one-hot, in float32."""
        return preprocess_obs(self.observations(rows), self.space, self.normalize_images)

    def shifted(self, rows: Tensor, shift_y: Tensor, shift_x: Tensor) -> Tensor:
        """Return rows whose images are shifted, with their edges repeated; what is not an image stays as it is.

        :param rows: (..., O).
        :param shift_y: rows of pixels by which each image begins later, integers (...).
        :param shift_x: likewise for columns.
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
        """Refuse choices and pixels that are not in their space, which a cast would change without a word.

        :param observations: arrays (n, ...), by name in a Dict space.
        :param noun: what they are, for the message.
        :raises ValueError: for the first of them.
        """
        for part in self.parts:
            array = self._by_key(observations)[part.key]
            if part.count is None or (part.is_image and array.dtype == np.uint8):
                continue
            values = array.reshape(len(array), -1)
            wrong = (values < 0) | (values >= part.count) | (values % 1 != 0)
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                raise ValueError(
                    f"{noun} must hold values of {part.space}, got {values[row, column]:g} in row {row}; give them as "
                    "the environment does"
                )

    def with_rows(self, dataset: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a dataset whose observations, dicts of arrays in a Dict space, are rows.

        :param dataset: arrays by name.
        :return: the same with `observations` and `next_observations` as (n, O), where they were dicts.
        :raises ValueError: if a part is missing or has the wrong shape.
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
                    has_kind = array.dtype == np.uint8  # nothing says the scale of other images
                    array = channels_first(array, part.shape)
                has_shape = array.shape[1:] in (part.shape, part.space.shape) and array.ndim
                if not (has_kind and has_shape):
                    raise ValueError(
                        f"dataset array `{name}` must hold `{part.key}` with the shape (n, *{part.shape}), images as "
                        f"uint8, got {array.dtype} of shape {array.shape}; the environment's space is {part.space}"
                    )
            arrays[name] = self.flatten(parts)
        return arrays


def centre_and_factor(
    observations: Tensor, scale: float | Literal["range"]
) -> tuple[Tensor, Tensor]:
    """Return what to subtract from observations and what to multiply them with then, for each coordinate.

    :param observations: (B, O).
    :param scale: their standard deviation after scaling; with ``"range"`` they then reach from -1 to 1.
    :return: both of shape (O,); a coordinate that never changes, or by rounding errors only, has the factor 1.
    """
    low, high = torch.aminmax(observations, dim=0)
    largest = torch.maximum(low.abs(), high.abs())
    if scale == "range":
        # halved first: the difference of the largest numbers would be infinite
        spread, centre, target = high / 2 - low / 2, low / 2 + high / 2, 1.0
    else:
        spread, centre = torch.std_mean(observations, dim=0, correction=0)
        target = scale
    # a spread of a unit in the last place is rounding; a factor beyond 1e30 would be infinite at once
    changes = spread > (ROUNDING * largest).clamp(min=1e-30)
    return centre, torch.where(changes, target / torch.where(changes, spread, 1.0), 1.0)


def channels_first(images: Array, shape: tuple[int, ...]) -> Array:
    """Return a view of images (n, height, width, channels) with the channels first; others unchanged.

    :param images: of a dataset.
    :param shape: of one image, (channels, height, width).
    :return: (n, channels, height, width) if they fit.
    """
    # a cube of pixels fits both ways, and stays as it is
    if images.shape[1:] != shape and images.shape[1:] == (*shape[1:], shape[0]):
        return np.moveaxis(images, -1, 1)
    return images


def crop_images(
    batch: Batch, noise: Mapping[str, Tensor], probability: float, layout: ObservationLayout
) -> Batch:
    """Shift the images of a batch at random.

    :param batch: the batch.
    :param noise: uniform draws: ``crop`` (S,) decides whether, ``crop_y`` and ``crop_x`` (S, B) where to.
    :param probability: of a shift.
    :param layout: of the observations.
    :return: the batch with other observations.
    """
    is_cropped = (noise["crop"] < probability).unsqueeze(-1)  # (S, 1)
    positions = 2 * CROP_PIXELS + 1
    shift_y = ((noise["crop_y"] * positions).long() - CROP_PIXELS) * is_cropped
    shift_x = ((noise["crop_x"] * positions).long() - CROP_PIXELS) * is_cropped

    def shift(rows: Tensor) -> Tensor:
        # all states of a chunk are shifted as its first one
        over_steps = (..., *[None] * (rows.ndim - 3))
        return layout.shifted(rows, shift_y[over_steps], shift_x[over_steps])

    return batch.with_observations(shift)


def _shift(images: Tensor, shift_y: Tensor, shift_x: Tensor) -> Tensor:
    """Shift images (..., channels, height, width) by numbers of pixels (...)."""
    height, width = images.shape[-2:]
    lines = torch.arange(height, device=images.device) + shift_y.unsqueeze(-1)
    columns = torch.arange(width, device=images.device) + shift_x.unsqueeze(-1)
    # a pixel beyond an edge is that of the edge
    y = lines.clamp(0, height - 1)[..., None, :, None]
    x = columns.clamp(0, width - 1)[..., None, None, :]
    return images.take_along_dim(y, -2).take_along_dim(x, -1)
