"""A dataset on one HTML page: returns, lengths, how trajectories end, actions, and where the observations are."""

from __future__ import annotations

import contextlib
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents.common.files import atomic_path
from agents.common.frames import channel_axis
from zoo.datasets.environment import global_numpy_seed, make_raw_env
from zoo.datasets.files import dataset_files
from zoo.datasets.formats.episodes import Array, Arrays
from zoo.datasets.names import parse_env_name
from zoo.envs.make import without_startup_noise
from zoo.envs.rendering import prepare_drawing
from zoo.terminal.texts import printable

BINS, MOST_PANELS, MOST_POINTS = 40, 12, 200_000
COLOUR = "#0072B2"
_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
td, th {{ padding: .1em 1em .1em 0; text-align: left; }} svg {{ max-width: 100%; height: auto; }}
</style></head><body><h1>{title}</h1><table>{rows}</table>{figures}</body></html>
"""


@dataclass(frozen=True)
class Trajectories:
    """What is known of each of k trajectories; every field has shape (k,)."""

    returns: Array
    lengths: Array
    terminated: Array

    @classmethod
    def of(cls, arrays: Arrays) -> Trajectories:
        """Return those of a set in the compact layout."""
        last = np.flatnonzero(arrays["valids"] == 0)
        begins = np.append(0, last[:-1] + 1)
        rewards = np.where(arrays["valids"] > 0, arrays["rewards"], 0)
        over = (arrays["masks"] == 0) & (arrays["valids"] > 0)
        return cls(np.add.reduceat(rewards, begins), last - begins, np.logical_or.reduceat(over, begins))


def write_card(
    path: Path, name: str, about: Mapping[str, Any], arrays: Arrays, pictures: Mapping[int, Array] | None = None
) -> dict[str, Any]:
    """Draw a set and write the page.

    :param about: what else to say about it, e.g. the task of the rewards.
    :param arrays: in the compact layout.
    :param pictures: of states, by row.
    :return: the facts on the page.
    """
    found = Trajectories.of(arrays)
    facts = {**about, **_facts(arrays, found)}
    drawings = {
        "Returns and lengths of trajectories": _figure(
            [
                ("return", lambda axes: _histogram(axes, found.returns)),
                ("length in steps", lambda axes: _histogram(axes, found.lengths)),
            ],
            "trajectories",
        ),
        "Actions": _of_columns(arrays["actions"][arrays["valids"] > 0], "action"),
        **_of_observations(arrays["observations"]),
    }
    if pictures:
        drawings["States"] = _gallery(pictures)
    rows = "".join(f"<tr><th>{_text(key)}</th><td>{_text(value)}</td></tr>" for key, value in facts.items())
    figures = "".join(f"<h2>{_text(title)}</h2>{_svg(figure)}" for title, figure in drawings.items())
    with atomic_path(path) as temporary:
        temporary.write_text(_PAGE.format(title=_text(name), rows=rows, figures=figures), encoding="utf-8")
    return facts


def _facts(arrays: Arrays, found: Trajectories) -> dict[str, Any]:
    """Return what the page says in words."""
    shape = arrays["observations"].shape[1:]
    return {
        "trajectories": len(found.lengths),
        "transitions": int(found.lengths.sum()),
        "numbers in an observation": shape[0] if len(shape) == 1 else " x ".join(map(str, shape)),
        "numbers in an action": arrays["actions"].shape[1],
        "shortest, mean and longest trajectory": _three(found.lengths),
        "lowest, mean and highest return": _three(found.returns),
        "trajectories with a terminal state (mask 0)": f"{found.terminated.mean():.1%}",
    }


def _three(values: Array) -> str:
    return f"{values.min():.4g}, {values.mean():.4g}, {values.max():.4g}"


def _of_columns(array: Array, name: str) -> Figure:
    """Return a histogram of each of the first coordinates."""
    shown = array[:: max(1, len(array) // MOST_POINTS), :MOST_PANELS]
    panels = [(f"{name} {k}", lambda axes, k=k: _histogram(axes, shown[:, k])) for k in range(shown.shape[1])]
    return _figure(panels, "rows")


def _of_observations(observations: Array) -> dict[str, Figure]:
    """Return what is drawn of the observations, by title: of images, some of them."""
    if observations.ndim == 2:
        columns = {"Observations": _of_columns(observations, "observation")}
        if observations.shape[1] == 1:
            return columns
        return {"Coverage: the two observations that vary most": _coverage(observations), **columns}
    return {"Observations": _gallery({row: observations[row] for row in rows_shown(len(observations))})}


def rows_shown(rows: int) -> list[int]:
    """Return which rows of a set are shown in pictures: some at equal distances, from the first to the last."""
    return [int(row) for row in np.unique(np.linspace(0, rows - 1, MOST_PANELS).astype(int))]


def _gallery(images: Mapping[int, Array]) -> Figure:
    return _figure([(f"row {row:,}", partial(_image, image=image)) for row, image in images.items()])


def _image(axes: Axes, image: Array) -> None:
    last = image if channel_axis(image.shape) == -1 else np.moveaxis(image, 0, -1)
    axes.imshow(last[..., :3] if last.shape[-1] >= 3 else last[..., 0])
    axes.set_axis_off()


def _coverage(observations: Array) -> Figure:
    """Return how often the two coordinates that vary most have which values: in mazes, those are x and y."""
    x, y = sorted(np.argsort(observations.var(0, dtype=np.float64))[-2:])
    points = observations[:: max(1, len(observations) // MOST_POINTS), [x, y]]

    def draw(axes: Axes) -> None:
        axes.hexbin(*points.T, gridsize=BINS, bins="log", mincnt=1, cmap="viridis")
        if max(np.ptp(points, 0)) < 5 * min(np.ptp(points, 0)):
            axes.set_aspect("equal")

    return _figure([(f"observation {x}", draw)], f"observation {y}", 6)


def _histogram(axes: Axes, values: Array) -> None:
    if len(values) and values.min() < values.max():
        axes.hist(values, BINS, color=COLOUR)
        axes.ticklabel_format(axis="x", useOffset=False)
    else:  # a histogram has no width then
        axes.bar([f"{value:,.6g}" for value in values[:1]], len(values), width=0.1, color=COLOUR)
        axes.set_xlim(-1, 1)


def _figure(panels: Sequence[tuple[str, Callable[[Axes], Any]]], upwards: str = "", width: float = 2.6) -> Figure:
    """Draw panels side by side, four in a row.

    :param panels: what is across, and what draws it.
    :param upwards: what is upwards; empty for pictures, whose name stands above them.
    """
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(width * columns, 0.8 * width * rows), layout="constrained")
    for number, (title, draw) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, number)
        draw(axes)
        if upwards:
            axes.set_xlabel(title, fontsize=9)
            axes.set_ylabel(upwards if (number - 1) % columns == 0 else "", fontsize=9)
        else:
            axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _svg(figure: Figure) -> str:
    """Return a figure as a part of a page."""
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    text = content.getvalue()
    return text[text.index("<svg") :]


def _text(value: Any) -> str:
    return html.escape(printable(f"{value:,}" if isinstance(value, int) else str(value)))


def draw_states(env_name: str, rows: Iterable[int], dataset_dir: str | Path | None = None) -> dict[int, np.ndarray]:
    """Draw states of a dataset.

    :param env_name: a single-task environment of OGBench without images; its dataset must be there and sound.
    :param rows: where the states are in it.
    :param dataset_dir: where the dataset is.
    :return: row -> picture, (H, W, 3) of uint8.
    """
    name = parse_env_name(env_name)
    with np.load(dataset_files(name.dataset, dataset_dir)[0]) as file:
        state = [file[key] for key in ("qpos", "qvel", "button_states") if key in file]
    env = make_raw_env(name.env_id, render_mode="rgb_array")
    with contextlib.closing(env), without_startup_noise(), global_numpy_seed(0):  # mazes draw a start from it
        env.reset(seed=0)
        return {row: _draw(env, [array[row] for array in state]) for row in rows}


def _draw(env: Any, state: list[np.ndarray]) -> np.ndarray:
    prepare_drawing(env.unwrapped)
    env.unwrapped.set_state(*state)
    picture: np.ndarray = env.render()
    return picture
