"""Make pictures of an agent's episodes with Matplotlib: a camera's or maps of mazes, and what a policy thinks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from agents.common.sb3.policy import FlowPolicy
from zoo.envs.make import RepeatableEnv, find_spec, is_ogbench, observes_images
from zoo.envs.rendering import prepare_drawing
from zoo.models.agent import Agent, episode_text
from zoo.runs.folder import short_name
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log
from zoo.watching.stage import PolicyInspector, RolloutSimulator, RunningEpisode, Stage, Thoughts

Array: TypeAlias = np.ndarray

PAPER, INK, FAINT = "#ffffff", "#21252e", "#687080"
FLOOR, WALL = "#f1f3f6", "#3e4656"
AGENT, GOAL, TRAIL, PLAYED = "#145ac8", "#cd283c", "#78a0e1", "#0f1217"
ENTRANCE, EXIT = "#963cbe", "#3ca06e"
"""Colours of the teleports of a maze."""
VALUES = LinearSegmentedColormap.from_list("values", ["#3a60c8", "#9696a0", "#e26a14"])
"""From the lowest value to the highest."""
LEGEND = "black: played; orange: high Q"
_LOOKS: dict[Any, Any] = {
    "text.color": INK, "axes.labelcolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT, "axes.edgecolor": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "grid.color": "#dee2e8", "font.size": 8, "axes.titlesize": 8, "axes.titlelocation": "left",
    "text.parse_math": False, "lines.markersize": 4,
}  # fmt: skip


def draw_maze(ax: Axes, maze: Any, trail: Sequence[Array]) -> None:
    """Draw a maze from above, with y upwards, and the way so far, whose end is the agent.

    :param maze: the environment without its wrappers, one of OGBench's mazes.
    :param trail: x and y at each step, in metres.
    """
    rows, columns = maze.maze_map.shape
    unit = maze._maze_unit
    left, bottom = -unit / 2 - maze._offset_x, -unit / 2 - maze._offset_y
    extent = (left, left + columns * unit, bottom, bottom + rows * unit)
    ax.imshow(maze.maze_map == 1, ListedColormap([FLOOR, WALL]), origin="lower", extent=extent, vmin=0, vmax=1)
    teleports = maze._teleport_info or {"teleport_in_xys": [], "teleport_out_xys": []}
    rings = [(maze.cur_goal_xy, GOAL)]
    rings += [(place, ENTRANCE) for place in teleports["teleport_in_xys"]]
    rings += [(place, EXIT) for place in teleports["teleport_out_xys"]]
    for place, colour in rings:
        ax.add_patch(Circle(tuple(place), unit / 4, fill=False, color=colour, linewidth=2))
    ax.add_patch(Circle(tuple(maze.cur_goal_xy), unit / 10, color=GOAL))
    ax.plot(*np.transpose(trail), color=TRAIL, linewidth=2)
    ax.plot(*trail[-1], "o", color=AGENT, markersize=10, markeredgecolor=PAPER, zorder=4)
    ax.set_axis_off()


def draw_ways(ax: Axes, ways: Array, thoughts: Thoughts) -> None:
    """Draw a line for each chunk, (F, points, 2), that ends in a disc; the one that is played is black."""
    colours, played = colours_of(thoughts), ways[thoughts.played]
    ax.add_collection(LineCollection(list(ways), colors=colours, linewidths=1.4))
    ax.scatter(ways[:, -1, 0], ways[:, -1, 1], s=12, c=colours, zorder=3)
    ax.plot(*played.T, "o-", color=PLAYED, linewidth=2.2, markevery=[-1], markersize=5, zorder=3)


def colours_of(thoughts: Thoughts) -> Array:
    """Return a colour for each chunk by its value among theirs; one colour where all are equal, or there are none."""
    values = np.zeros(len(thoughts.chunks)) if thoughts.values is None else thoughts.values
    return np.asarray(VALUES(Normalize()(values)))


def draw_flow(ax: Axes, thoughts: Thoughts) -> None:
    """Draw how the first actions of chunks came from noise: rings are noise, discs are actions.

    An action of one number is drawn over the steps of the flow, others by their first two numbers.
    """
    ways = np.stack(thoughts.stages, 1)  # (F, steps + 1, A)
    if ways.shape[2] == 1:
        steps = np.broadcast_to(np.arange(ways.shape[1])[:, None], ways.shape)
        points = np.concatenate([steps, ways], 2)
        ax.set(xlabel="step of the flow", ylabel="action")
    else:
        points = ways[:, :, :2]
        ax.set(xlim=(-3, 3), xlabel="first action, coordinate 1", ylabel="coordinate 2")
    rims = [to_hex(colour) for colour in colours_of(thoughts)]
    ax.scatter(points[:, 0, 0], points[:, 0, 1], s=16, facecolors=PAPER, edgecolors=rims, zorder=3)
    draw_ways(ax, points, thoughts)
    ax.set(ylim=(-3, 3), title="From noise to action\nrings: noise; discs: actions")


def draw_chunks(ax: Axes, thoughts: Thoughts) -> None:
    """Draw the first coordinate of sampled chunks over their steps."""
    first = thoughts.chunks[:, :, 0]
    steps = np.broadcast_to(np.arange(1, first.shape[1] + 1), first.shape)
    draw_ways(ax, np.stack([steps, first], 2), thoughts)
    ax.set(xlabel="step of the chunk", ylabel="coordinate 1", title=f"Sampled chunks\n{LEGEND}")


def draw_values(ax: Axes, values: Sequence[Array], planned: Mapping[int, float]) -> None:
    """Draw the values of what was sampled at each step, (F,), and those of what was played.

    :param planned: step at which a chunk was planned -> its value.
    """
    steps, sampled = range(len(values)), np.array(values)
    ax.fill_between(steps, sampled.min(1), sampled.max(1), color="#cddcf5", linewidth=0)
    ax.plot(steps, sampled.mean(1), color=AGENT, linewidth=2)
    ax.plot(list(planned), list(planned.values()), "o", color=PLAYED)
    note = "line: mean of the samples; band: all of them; dots: chunks begun"
    ax.set(xlabel="step", title=f"Q of a chunk planned now: {sampled[-1].mean():.1f}\n{note}")


ALONE, TILE, EXPLAINED = 480, 256, 560
"""Size in pixels of the picture of an episode by itself, of one among several, and of one beside thoughts."""
HEAD = 64
"""Height in pixels of the title above."""


@dataclass
class EpisodeTrace:
    """What is remembered of an episode.

    :param trail: where the agent was, x and y.
    :param values: of the sampled chunks at each step, (F,).
    :param planned: step at which a chunk was planned -> its value.
    :param thoughts: at the last plan.
    :param paths: where the sampled chunks of the last plan lead, (F, H + 1, 2).
    :param is_over: whether the end of the episode was seen.
    """

    trail: list[Array] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    planned: dict[int, float] = field(default_factory=dict)
    thoughts: Thoughts | None = None
    paths: Array | None = None
    is_over: bool = False


class Film:
    """Makes a picture of each moment of an agent's episodes.

    :param grid: rows and columns of episodes that are shown together.
    :param explain: whether to show what the policy thinks.
    :param has_camera: whether MuJoCo draws here; mazes can do without.
    :raises UsageError: if that cannot be shown.
    """

    def __init__(
        self, agent: Agent, grid: tuple[int, int] = (1, 1), explain: bool = False, has_camera: bool = True
    ) -> None:
        if explain and not (isinstance(agent.policy, FlowPolicy) and agent.policy.num_replicas == 1):
            raise UsageError(
                f"`--explain` shows how flow policies think, got {agent.algo}, which is none; leave it out"
            )
        self._agent, (self._rows, self._columns) = agent, grid
        self._size = EXPLAINED if explain else ALONE if grid == (1, 1) else TILE
        spec = find_spec(agent.env_id)
        self._sees_pictures = observes_images(spec, agent.env_kwargs)
        camera: dict[str, Any] = {}  # what the agent sees has the size that it has learnt
        if not self._sees_pictures:
            size = {"width": self._size, "height": self._size}
            camera = size if is_ogbench(spec) else {"render_mode": "rgb_array"}
        self.stage = Stage(agent, self._rows * self._columns, camera)
        is_maze = find_maze(self.stage.envs[0]) is not None
        self._uses_map = is_maze and (explain or not has_camera)
        self._mind = PolicyInspector(agent.policy) if explain else None  # type: ignore[arg-type]  # a FlowPolicy, see above
        self._imagination = RolloutSimulator(agent) if explain and is_maze else None
        self._diaries: dict[int, EpisodeTrace] = {}
        self._reach = 0.1  # metres that chunks lead away, at most so far
        self._wins: list[int] = []

    def pictures(self, every: int = 1) -> Iterator[tuple[Array, bool]]:
        """Play all episodes; yield a picture of every so many steps, and whether it is the last one of its episodes.

        A picture has the shape (height, width, 3).
        """
        for moment, lanes in enumerate(self.stage.play()):
            for lane in lanes:
                self._remember(lane)
            is_last = all(lane.is_over for lane in lanes)
            if moment % every == 0 or is_last:
                yield self._picture(lanes), is_last

    def close(self) -> None:
        """Close the environments."""
        self.stage.close()
        if self._imagination is not None:
            self._imagination.close()

    def _remember(self, lane: RunningEpisode) -> None:
        """Add a moment to the diary of an episode."""
        diary = self._diaries.setdefault(lane.episode, EpisodeTrace())
        if diary.is_over:
            return
        diary.is_over = lane.is_over
        if self._uses_map:
            diary.trail.append(np.array(lane.env.env.unwrapped.get_xy()))  # type: ignore[attr-defined]  # a maze
        if lane.is_over:
            if lane.success is not None:
                self._wins.append(lane.success)
            log.info(episode_text(lane.episode + 1, lane.success, lane.length, lane.total))
        elif self._mind is not None:
            thoughts = self._mind.think(lane)
            if thoughts.values is not None:
                diary.values.append(thoughts.values)
            if lane.has_new_chunk:
                diary.thoughts = thoughts
                if thoughts.values is not None:
                    diary.planned[lane.length] = float(thoughts.values[thoughts.played])
                if self._imagination is not None:
                    diary.paths = self._imagination.paths(lane.env, thoughts.chunks)
                    self._reach = max(self._reach, float(np.abs(diary.paths - diary.paths[:, :1]).max()))

    def _picture(self, lanes: Sequence[RunningEpisode]) -> Array:
        """Return the picture of a moment: a scene for each lane, or one beside what the policy thinks in it."""
        width, height = self._columns * self._size, self._rows * self._size + HEAD
        with matplotlib.rc_context(_LOOKS):
            figure = Figure(dpi=100)
            top = 1 - HEAD / height
            if self._mind is not None:
                width = 2 * self._size
                axes = figure.subplot_mosaic("ssab;sscc")
                figure.subplots_adjust(0.01, 0.08, 0.98, top - 0.03, 0.5, 0.45)
                self._draw_thoughts(axes["a"], axes["b"], axes["c"], lanes[0])
                scenes = [axes["s"]]
            else:
                scenes = list(figure.subplots(self._rows, self._columns, squeeze=False).flat)
                figure.subplots_adjust(0, 0, 1, top, 0.02, 0.12)
            figure.set_size_inches(width / 100, height / 100)
            for ax in scenes:
                ax.set_axis_off()  # the last episodes may be fewer than the places
            for ax, lane in zip(scenes, lanes, strict=False):
                self._draw_scene(ax, lane)
            text = f"{self._agent.algo} in {short_name(self._agent.env)}"
            if self._wins:
                text += f": {sum(self._wins)} of {len(self._wins)} succeeded"
            figure.suptitle(text, x=0.01, ha="left", size=11)
            canvas: Any = FigureCanvasAgg(figure)
            canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3]

    def _draw_scene(self, ax: Axes, lane: RunningEpisode) -> None:
        """Draw the camera's picture, or the map with what is planned."""
        diary = self._diaries[lane.episode]
        if self._uses_map:
            draw_maze(ax, find_maze(lane.env), diary.trail)
            if diary.paths is not None and diary.thoughts is not None:
                draw_ways(ax, diary.paths, diary.thoughts)
        else:
            if not self._sees_pictures:
                prepare_drawing(lane.env.env.unwrapped)
            ax.imshow(np.asarray(lane.env.render()))
        ending = ""
        if lane.is_over and lane.success is not None:
            ending = ": success" if lane.success else ": failure"
        ax.set_title(f"episode {lane.episode + 1}, step {lane.length}{ending}", size=10)

    def _draw_thoughts(self, close_up: Axes, flow: Axes, below: Axes, lane: RunningEpisode) -> None:
        """Draw the panels beside a scene."""
        diary = self._diaries[lane.episode]
        thoughts, paths = diary.thoughts, diary.paths
        assert thoughts is not None
        for ax in (close_up, flow, below):
            ax.grid(True)
            ax.locator_params(nbins=4)
        if paths is None:
            draw_chunks(close_up, thoughts)
        else:
            draw_maze(close_up, find_maze(lane.env), diary.trail)
            draw_ways(close_up, paths, thoughts)
            (x, y), reach = paths[0, 0], 1.15 * self._reach
            close_up.set(xlim=(x - reach, x + reach), ylim=(y - reach, y + reach), title=f"Planned paths\n{LEGEND}")
        draw_flow(flow, thoughts)
        if thoughts.values is None:
            below.set(title=f"Q of a chunk planned now\n{self._agent.algo} has no critic", xticks=[], yticks=[])
        else:
            draw_values(below, diary.values, diary.planned)


def find_maze(env: RepeatableEnv) -> Any:
    """Return an environment without its wrappers if it is one of OGBench's mazes, else None."""
    raw: Any = env.env.unwrapped
    return raw if hasattr(raw, "maze_map") and hasattr(raw, "cur_goal_xy") else None


def draws_with_mujoco(env: RepeatableEnv) -> bool:
    """Return whether MuJoCo makes an environment's pictures; others have a library of their own."""
    origins = ("ogbench.", "gymnasium.envs.mujoco", "zoo.envs.robosuite")
    return any(kind.__module__.startswith(origins) for kind in type(env.env.unwrapped).__mro__)
