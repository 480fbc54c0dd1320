"""Observations as rows of numbers: how images, dicts and choices are stored, and what a features extractor gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import get_obs_shape, is_image_space
from torch import Tensor
from torch.nn import functional as F

ROUNDING = 2.0**-22
"""Two units in the last place of a float32, relative to its size."""
PARTS = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


class SpaceSlice(NamedTuple):
    """One space of an observation, and which columns of a row hold it.

    :param key: its name in a Dict space; empty where the observation is this space alone.
    :param space: the space.
    :param shape: of its values in an environment's observation, and in a features extractor's input if it is a Box.
    :param columns: where it is in a row.
    """

    key: str
    space: PARTS
    shape: tuple[int, ...]
    columns: slice
    is_image: bool


class ObservationLayout:
    """How observations of a space become rows (N, O) for the replay buffer and the networks, and what becomes of them.

    Rows hold the values as the environment gives them: a Box flattened, a choice as its number, the parts of a Dict one
    after the other. Images stay uint8 if there is nothing else in the observation; other rows are float32.

    :param space: a Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict of such spaces.
    :param normalize_images: whether a features extractor gets images in [0, 1].
    """

    def __init__(self, space: spaces.Space[Any], normalize_images: bool = True) -> None:
        self.space, self.normalize_images = space, normalize_images
        self.parts: list[SpaceSlice] = []
        self.size = 0
        leaves: dict[str, Any] = (
            dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
        )
        for key, part in leaves.items():
            shape: Any = get_obs_shape(part)
            columns = slice(self.size, self.size + int(np.prod(shape)))
            self.parts.append(SpaceSlice(key, part, shape, columns, is_image_space(part)))
            self.size = columns.stop
        only_images = all(part.is_image for part in self.parts)
        self.dtype = torch.uint8 if only_images else torch.float32
        self.numpy_dtype: type[Any] = np.uint8 if only_images else np.float32
        self.is_plain = isinstance(space, spaces.Box) and not only_images
        """Whether rows are what networks see, so that nothing needs to be extracted."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one observation in a dataset's array: its own, or (O,) where a Dict is made a row."""
        return (self.size,) if isinstance(self.space, spaces.Dict) else self.parts[0].shape

    def flatten(self, observations: Any) -> NDArray[Any]:
        """Return observations as rows.

        :param observations: arrays or tensors (N, ...), by name in a Dict space; the channels of images first or last.
        :return: (N, O).
        """
        values = observations if isinstance(self.space, spaces.Dict) else {"": observations}
        rows = []
        for part in self.parts:
            value = values[part.key]
            array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
            array = array.astype(self.numpy_dtype, copy=False)
            if part.is_image:
                array = channels_first(array, part.shape)
            rows.append(array.reshape(-1, int(np.prod(part.shape))))
        return rows[0] if len(rows) == 1 else np.concatenate(rows, -1)

    def observations(self, rows: NDArray[Any]) -> Any:
        """Return rows (..., O) as the environment's observations, (N, ...), by name in a Dict space."""
        parts = {part.key: rows[..., part.columns].reshape(-1, *part.shape) for part in self.parts}
        return parts if isinstance(self.space, spaces.Dict) else parts[""]

    def split(self, rows: Tensor) -> Any:
        """Return rows (..., O) as the environment's observations, (..., *shape), by name in a Dict space."""
        parts = {part.key: rows[..., part.columns].unflatten(-1, part.shape) for part in self.parts}
        return parts if isinstance(self.space, spaces.Dict) else parts[""]

    def zeros(self, *shape: int) -> Tensor:
        """Return rows of zeros, (*shape, O), in which each choice is the first of its space."""
        rows = torch.zeros(*shape, self.size, dtype=self.dtype)
        for part in self.parts:
            if isinstance(part.space, spaces.Discrete | spaces.MultiDiscrete):
                rows[..., part.columns] = torch.as_tensor(part.space.start, dtype=self.dtype)
        return rows

    def to_extractor_input(self, rows: Tensor) -> Any:
        """Return rows as SB3's features extractors take them: images in [0, 1], choices one-hot, all in float32.

        :param rows: (N, O).
        :return: (N, ...), by name in a Dict space.
        """
        inputs = {part.key: self._prepare(part, rows[:, part.columns]) for part in self.parts}
        return inputs if isinstance(self.space, spaces.Dict) else inputs[""]

    def _prepare(self, part: SpaceSlice, values: Tensor) -> Tensor:
        if isinstance(part.space, spaces.Box):
            numbers = values.float().unflatten(-1, part.shape)
            return numbers / 255.0 if self.normalize_images and part.is_image else numbers
        if isinstance(part.space, spaces.MultiBinary):
            return values.float()
        counts = [part.space.n] if isinstance(part.space, spaces.Discrete) else part.space.nvec
        choices = zip(
            values.long().unbind(-1), np.atleast_1d(part.space.start), counts, strict=True
        )
        return torch.cat(
            [F.one_hot(column - int(first), int(n)) for column, first, n in choices], -1
        ).float()

    def shifted(self, rows: Tensor, shift_y: Tensor, shift_x: Tensor) -> Tensor:
        """Return rows whose images are shifted, with their edges repeated; what is not an image stays as it is.

        :param rows: (..., O).
        :param shift_y: rows of pixels by which each image begins later, integers (...).
        :param shift_x: likewise for columns.
        :return: (..., O).
        """
        parts = [rows[..., part.columns] for part in self.parts]
        for index, part in enumerate(self.parts):
            if part.is_image:
                parts[index] = _shift(
                    parts[index].unflatten(-1, part.shape), shift_y, shift_x
                ).flatten(-3)
        return torch.cat(parts, -1)

    def refuse_unknown_choices(self, rows: NDArray[Any]) -> None:
        """Refuse choices that are not in their space.

        :param rows: of a dataset, (n, ...).
        :raises ValueError: for the first of them.
        """
        flat = rows.reshape(len(rows), -1)
        for part in self.parts:
            if not isinstance(part.space, spaces.Discrete | spaces.MultiDiscrete):
                continue
            counts = part.space.n if isinstance(part.space, spaces.Discrete) else part.space.nvec
            chosen = flat[:, part.columns] - part.space.start
            wrong = (chosen < 0) | (chosen >= counts) | (chosen % 1 != 0)
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                raise ValueError(
                    f"dataset array `observations` must hold choices of {part.space}, got "
                    f"{flat[row, part.columns][column]:g} in row {row}; number them as the environment does"
                )

    def with_rows(self, dataset: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a dataset whose observations, dicts of arrays in a Dict space, are rows.

        :param dataset: arrays by name.
        :return: the same with `observations` and `next_observations` as (n, O), where they were dicts.
        :raises ValueError: if a part is missing or has the wrong shape.
        """
        arrays = dict(dataset)
        for name in ("observations", "next_observations"):
            if isinstance(self.space, spaces.Dict) and isinstance(dataset.get(name), Mapping):
                for part in self.parts:
                    self._require_part(name, part, np.asarray(dataset[name].get(part.key)))
                arrays[name] = self.flatten(dataset[name])
        return arrays

    def _require_part(self, name: str, part: SpaceSlice, array: NDArray[Any]) -> None:
        """Refuse a part of a dataset's observations that is missing or has another shape."""
        shape = channels_first(array, part.shape).shape if part.is_image else array.shape
        if not shape or shape[1:] not in (part.shape, part.space.shape):
            raise ValueError(
                f"dataset array `{name}` must hold `{part.key}` with the shape (n, *{part.shape}), got {array.shape}; "
                f"the environment's space is {part.space}"
            )


def centre_and_factor(
    observations: Tensor, scale: float | Literal["range"]
) -> tuple[Tensor, Tensor]:
    """Return what to subtract from observations and what to multiply them with then, for each coordinate.

    :param observations: (N, O).
    :param scale: their standard deviation after scaling; with ``"range"`` they then reach from -1 to 1.
    :return: both of shape (O,); a coordinate that never changes, or by rounding errors only, has the factor 1.
    """
    low, high = torch.aminmax(observations, dim=0)
    largest = torch.maximum(low.abs(), high.abs())
    if scale == "range":
        spread, centre, target = high / 2 - low / 2, low / 2 + high / 2, 1.0
    else:
        spread, centre = torch.std_mean(observations, dim=0, correction=0)
        target = scale
        # squares of very small and very large numbers are zero and infinite in float32
        extreme = ((largest < 1e-15) | (largest > 1e15)).nonzero().flatten()
        if len(extreme):
            precise = torch.std_mean(observations[:, extreme].double(), dim=0, correction=0)
            spread[extreme], centre[extreme] = (statistic.to(spread.dtype) for statistic in precise)
    # a spread of a unit in the last place is rounding; a factor beyond 1e30 would be infinite at once
    changes = spread > (ROUNDING * largest).clamp(min=1e-30)
    return centre, torch.where(changes, target / torch.where(changes, spread, 1.0), 1.0)


def channels_first(images: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a view of images whose channels come last, (n, H, W, C), with the channels first; others unchanged.

    :param images: of a dataset.
    :param shape: of one image, (C, H, W).
    :return: (n, C, H, W) if they fit.
    """
    is_last = images.shape[1:] != shape and images.shape[1:] == (*shape[1:], shape[0])
    return np.moveaxis(images, -1, 1) if is_last else images


def _shift(images: Tensor, shift_y: Tensor, shift_x: Tensor) -> Tensor:
    """Shift images (..., C, H, W) by numbers of pixels (...)."""
    height, width = images.shape[-2:]
    down = (torch.arange(height, device=images.device) + shift_y.unsqueeze(-1)).clamp(
        0, height - 1
    )  # (..., H)
    right = (torch.arange(width, device=images.device) + shift_x.unsqueeze(-1)).clamp(0, width - 1)
    lines = images.gather(-2, down[..., None, :, None].expand(*images.shape))
    return lines.gather(-1, right[..., None, None, :].expand(*images.shape))
