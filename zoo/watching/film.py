"""Make pictures of an agent's episodes: a camera's or maps of mazes, and what a policy thinks, by Matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image, ImageDraw, ImageFont, ImageOps

from agents.common.sb3.policy import FlowPolicy
from zoo.envs.make import RepeatableEnv, find_spec, is_ogbench, observes_images
from zoo.envs.rendering import prepare_drawing
from zoo.errors import UsageError
from zoo.models.agent import Agent, episode_text
from zoo.runs.folder import short_name
from zoo.runs.protocol import count
from zoo.terminal.messages import log
from zoo.watching.stage import Imagination, Lane, Mind, Stage, Thoughts

CAPTION = 32
"""The height of a line of text under a picture."""
PAPER, INK, FAINT = "#ffffff", "#21252e", "#687080"
FLOOR, WALL = "#f1f3f6", "#3e4656"
AGENT, GOAL, TRAIL, PLAYED = "#145ac8", "#cd283c", "#78a0e1", "#0f1217"
GATES = ("#963cbe", "#3ca06e")
GOOD, BAD = "#147a42", "#b22832"
VALUES = LinearSegmentedColormap.from_list("values", ["#3a60c8", "#9696a0", "#e26a14"])
"""From the lowest value to the highest."""
_LOOKS: dict[Any, Any] = {
    "text.color": INK, "axes.labelcolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT, "axes.edgecolor": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#dee2e8", "font.size": 8, "axes.titlesize": 8, "axes.titlelocation": "left",
    "text.parse_math": False, "lines.markersize": 4,
}  # fmt: skip


@dataclass(frozen=True)
class MazeMap:
    """The plan of a maze, in metres.

    :param walls: where they are, (rows, columns); row i is at y = i * unit - offset.
    :param unit: the length of a cell.
    :param offset: of x and y, where cell (0, 0) has its centre at -offset.
    :param goal: x and y.
    :param gates: x and y of the teleports' entrances, and of their exits.
    """

    walls: Array
    unit: float
    offset: tuple[float, float]
    goal: tuple[float, float]
    gates: Sequence[Sequence[tuple[float, float]]] = ((), ())


Draw = Callable[[Axes], object]
Array: TypeAlias = np.ndarray


def drawn(width: int, height: int, *panels: tuple[int, Draw]) -> Image.Image:
    """Return panels as one picture of a size in pixels; each has its place, in Matplotlib's three digits."""
    with matplotlib.rc_context(_LOOKS):
        figure = Figure((width / 100, height / 100), dpi=100)
        for place, draw in panels:
            ax = figure.add_subplot(place)
            draw(ax)
            ax.locator_params(nbins=4)
        if len(panels) > 1:
            figure.subplots_adjust(0.12, 0.1, 0.97, 0.91, wspace=0.35, hspace=0.5)
        else:
            figure.subplots_adjust(0, 0, 1, 1)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def colours_of(thoughts: Thoughts) -> Array:
    """Return a colour for each chunk, by its value among theirs; one colour where all are equal, or there are none."""
    shares = np.full(len(thoughts.chunks), 0.5)
    if thoughts.values is not None and np.ptp(thoughts.values):
        shares = (thoughts.values - thoughts.values.min()) / np.ptp(thoughts.values)
    return np.asarray(VALUES(shares))


def legend(thoughts: Thoughts) -> str:
    """Return what the colours of chunks mean."""
    return "black: played" if thoughts.values is None else "black: played; orange: higher Q"


def draw_maze(
    ax: Axes,
    maze: MazeMap,
    trail: Sequence[Array],
    paths: Array | None = None,
    thoughts: Thoughts | None = None,
) -> None:
    """Draw a maze from above, with y upwards, and the way so far, whose end is the agent.

    :param paths: where the chunks thought of lead, (F, H + 1, 2).
    """
    rows, columns = maze.walls.shape
    left, bottom = (-maze.unit / 2 - shift for shift in maze.offset)
    extent = (left, left + columns * maze.unit, bottom, bottom + rows * maze.unit)
    ax.imshow(maze.walls == 1, ListedColormap([FLOOR, WALL]), origin="lower", extent=extent, vmin=0, vmax=1)
    rings = [([maze.goal], GOAL), *zip(maze.gates, GATES, strict=True)]
    for place, colour in ((place, colour) for places, colour in rings for place in places):
        ax.add_patch(Circle(place, maze.unit / 4, fill=False, color=colour, linewidth=2))
    ax.add_patch(Circle(maze.goal, maze.unit / 10, color=GOAL))
    ax.plot(*np.transpose(trail), color=TRAIL, linewidth=2)
    if paths is not None and thoughts is not None:
        _draw_ways(ax, paths, thoughts)
    ax.plot(*trail[-1], "o", color=AGENT, markersize=10, markeredgecolor=PAPER, zorder=4)
    ax.set_axis_off()


def draw_close_up(
    ax: Axes, maze: MazeMap, trail: Sequence[Array], paths: Array, thoughts: Thoughts, reach: float
) -> None:
    """Draw the surroundings of an agent with the paths of the chunks thought of.

    :param reach: half the width of what is shown, in metres.
    """
    draw_maze(ax, maze, trail, paths, thoughts)
    x, y = paths[0, 0]
    ax.set(xlim=(x - reach, x + reach), ylim=(y - reach, y + reach), title=f"Planned paths\n{legend(thoughts)}")


def draw_flow(ax: Axes, thoughts: Thoughts) -> None:
    """Draw how the first actions of chunks came from noise: rings are noise, discs are actions."""
    ways = np.stack(thoughts.stages, 1)  # (F, steps + 1, A)
    steps = ways.shape[1] - 1
    title, note = "Actions", "no noise becomes an action"
    if steps:
        title, note = f"From noise to action, {count(steps, 'step')}", "rings: noise; discs: actions"
    if ways.shape[2] == 1:
        ways = np.concatenate([np.broadcast_to(np.arange(steps + 1.0)[:, None], ways.shape), ways], 2)
        ax.set(xlim=(0, max(steps, 1)), xlabel="step of the flow", ylabel="action")
    else:
        ax.plot([-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], color=FAINT, linewidth=1)
        ax.set(xlim=(-3, 3), xlabel="first action, coordinate 1", ylabel="coordinate 2")
    if steps:
        colours = colours_of(thoughts)
        x, y = ways[:, :, :2].T
        ax.scatter(x[1:-1].T, y[1:-1].T, s=4, c=np.repeat(colours, steps - 1, 0))
        ax.scatter(x[0], y[0], s=16, facecolors=PAPER, edgecolors=list(map(to_hex, colours)), zorder=3)
    _draw_ways(ax, ways[:, :, :2], thoughts)
    ax.set(ylim=(-3, 3), title=f"{title}\n{note}")


def draw_chunks(ax: Axes, thoughts: Thoughts, limits: tuple[float, float]) -> None:
    """Draw the first coordinate of sampled chunks over their steps."""
    first = thoughts.chunks[:, :, 0]
    steps = np.broadcast_to(np.arange(1, first.shape[1] + 1), first.shape)
    _draw_ways(ax, np.stack([steps, first], 2), thoughts)
    ax.set(xlim=(1, max(first.shape[1], 2)), ylim=limits, xlabel="step of the chunk", ylabel="coordinate 1")
    ax.set_title(f"{len(first)} sampled chunks\n{legend(thoughts)}")


def _draw_ways(ax: Axes, ways: Array, thoughts: Thoughts) -> None:
    """Draw a line for each chunk, (F, points, 2), that ends in a disc; the one that is played is black."""
    colours, played = colours_of(thoughts), ways[thoughts.played]
    ax.add_collection(LineCollection(list(ways), colors=colours, linewidths=1.4))
    ax.scatter(ways[:, -1, 0], ways[:, -1, 1], s=12, c=colours, zorder=3)
    ax.plot(*played.T, "o-", color=PLAYED, linewidth=2.2, markevery=[-1], markersize=5, zorder=3)


def widened(limits: tuple[float, float], values: Array) -> tuple[float, float]:
    """Return limits of an axis that hold further values, with room beyond these, so that the axis seldom changes."""
    least, most = float(values.min()), float(values.max())
    room = 0.1 * (max(limits[1], most) - min(limits[0], least))
    return limits[0] if least >= limits[0] else least - room, limits[1] if most <= limits[1] else most + room


def draw_values(
    ax: Axes, values: Array, planned: Sequence[tuple[int, float]], limits: tuple[float, float], first: int = 0
) -> None:
    """Draw the values of what was sampled at each step, (T, F), from step ``first`` on, and those of what was played.

    :param planned: steps at which chunks were planned, and the values of these.
    :param limits: of the axis of values.
    """
    steps, middle = range(first, first + len(values)), values.mean(1)
    ax.fill_between(steps, values.min(1), values.max(1), color="#cddcf5", linewidth=0)
    ax.plot(steps, middle, color=AGENT, linewidth=2)
    ax.plot(*np.reshape([dot for dot in planned if dot[0] >= first], (-1, 2)).T, "o", color=PLAYED)
    note = f"line: mean of {values.shape[1]} samples; band: all of them; dots: chunks begun"
    ax.set(xlim=(first, max(steps[-1], first + 40)), ylim=limits if limits[0] < limits[1] else (-1, 1), xlabel="step")
    ax.set_title(f"Q of a chunk planned now: {middle[-1]:.1f}\n{note}")


def captioned(picture: Image.Image, text: str, colour: str = INK) -> Image.Image:
    """Return a picture with a line of text below it."""
    whole = ImageOps.expand(picture, (0, 0, 0, CAPTION), PAPER)
    size = 15 if whole.width > 400 else 13
    ImageDraw.Draw(whole).text((10, whole.height - CAPTION / 2), text, colour, ImageFont.load_default(size), "lm")
    return whole


def in_grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Return pictures of one size as one."""
    gap = 4
    width, height = (side + gap for side in pictures[0].size)
    rows = math.ceil(len(pictures) / columns)
    whole = Image.new("RGB", (columns * width - gap, rows * height - gap), PAPER)
    for place, picture in enumerate(pictures):
        whole.paste(picture, (place % columns * width, place // columns * height))
    return whole


ALONE, TILE = 480, 256
"""Size of the picture of an episode by itself, and of one among several."""
EXPLAINED, PANELS = 512, 448
"""Size of the picture beside which thoughts are shown, and width of these."""
SHOWN_STEPS = 200
"""How many of the last steps have their values shown."""


@dataclass
class Diary:
    """What is remembered of the episode of a lane.

    :param trail: where the agent was, x and y.
    :param values: of the sampled chunks at each step, (F,).
    :param planned: steps at which chunks were planned, and the values of these.
    :param thoughts: at the last plan.
    :param paths: where the sampled chunks of the last plan lead, (F, H + 1, 2).
    :param is_over: whether the end of the episode was seen.
    """

    trail: list[Array] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    planned: list[tuple[int, float]] = field(default_factory=list)
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
        lanes = grid[0] * grid[1]
        self._agent, (self._rows, self._columns) = agent, grid
        self._size = EXPLAINED if explain else ALONE if lanes == 1 else TILE
        self._sees_pictures = observes_images(find_spec(agent.env_id), agent.env_kwargs)
        self.stage = Stage(agent, lanes, _picture_size(agent, self._size))
        maze = find_maze(self.stage.lanes[0].env)
        self._uses_map = maze is not None and (explain or not has_camera)
        self._mind = Mind(agent.policy) if explain else None  # type: ignore[arg-type]  # a FlowPolicy, see above
        self._imagination = Imagination(agent) if explain and maze is not None else None
        self._diaries = [Diary() for _ in self.stage.lanes]
        self._reach = 0.1  # metres that chunks lead away, at most so far
        self._limits = (0.0, 0.0)  # of the values so far
        self._wins: list[int | None] = []

    def pictures(self, every: int = 1) -> Iterator[tuple[Image.Image, bool]]:
        """Play all episodes; yield a picture of every so many steps, and whether it is the last one of its episodes."""
        for moment, lanes in enumerate(self.stage.play()):
            for index, lane in enumerate(lanes):
                self._remember(index, lane)
            is_last = all(lane.is_over for lane in lanes)
            if moment % every == 0 or is_last:
                yield self._picture(lanes), is_last

    def close(self) -> None:
        """Close the environments."""
        self.stage.close()
        if self._imagination is not None:
            self._imagination.close()

    def _remember(self, index: int, lane: Lane) -> None:
        """Add a moment to a lane's diary, which begins again with each episode."""
        if lane.length == 0:
            self._diaries[index] = Diary()
        diary = self._diaries[index]
        if diary.is_over:
            return
        diary.is_over = lane.is_over
        if self._uses_map:
            diary.trail.append(np.array(lane.env.env.unwrapped.get_xy()))  # type: ignore[attr-defined]  # a maze
        if lane.is_over:
            self._wins.append(lane.success)
            log.info("%s", episode_text(lane.episode + 1, lane.success, lane.length, lane.total))
        elif self._mind is not None:
            self._think(self._mind, lane, diary)

    def _think(self, mind: Mind, lane: Lane, diary: Diary) -> None:
        """Add what the policy thinks now."""
        thoughts = mind.think(lane)
        if thoughts.values is not None:
            diary.values.append(thoughts.values)
            self._limits = widened(self._limits, thoughts.values)
        if lane.has_new_chunk:
            diary.thoughts = thoughts
            if thoughts.values is not None:
                diary.planned.append((lane.length, float(thoughts.values[thoughts.played])))
            if self._imagination is not None:
                diary.paths = self._imagination.paths(lane.env, thoughts.chunks)
                self._reach = max(self._reach, float(np.abs(diary.paths - diary.paths[:, :1]).max()))

    def _picture(self, lanes: Sequence[Lane]) -> Image.Image:
        """Return the picture of a moment: a tile for each lane, and how many episodes have succeeded so far."""
        tiles = [self._tile(lane, diary) for lane, diary in zip(lanes, self._diaries, strict=False)]
        blank = Image.new("RGB", tiles[0].size, PAPER)  # for the last episodes, if there are fewer than places
        tiles += [blank] * (self._rows * self._columns - len(tiles))
        text = f"{self._agent.algo} in {short_name(self._agent.env)}"
        if wins := [success for success in self._wins if success is not None]:
            text += f": {sum(wins)} of {len(wins)} succeeded"
        return captioned(in_grid(tiles, self._columns), text)

    def _tile(self, lane: Lane, diary: Diary) -> Image.Image:
        """Return the picture of a lane with its caption."""
        picture = self._main(lane, diary)
        if self._mind is not None:
            panels = drawn(PANELS, self._size, *self._panels(lane, diary))
            picture = Image.fromarray(np.hstack([np.asarray(picture), np.asarray(panels)]))
        text, colour = f"episode {lane.episode + 1}, step {lane.length}", INK
        if lane.is_over and lane.success is not None:
            ending, colour = ("success", GOOD) if lane.success else ("failure", BAD)
            text += f": {ending}"
        return captioned(picture, text, colour)

    def _main(self, lane: Lane, diary: Diary) -> Image.Image:
        """Return the camera's picture, or the map with what is planned."""
        maze = find_maze(lane.env) if self._uses_map else None
        if maze is not None:
            return drawn(
                self._size, self._size, (111, lambda ax: draw_maze(ax, maze, diary.trail, diary.paths, diary.thoughts))
            )
        if not self._sees_pictures:
            prepare_drawing(lane.env.env.unwrapped)
        return ImageOps.pad(Image.fromarray(np.asarray(lane.env.render())), (self._size, self._size), color=PAPER)

    def _panels(self, lane: Lane, diary: Diary) -> Iterator[tuple[int, Draw]]:
        """Yield the panels beside the picture."""
        thoughts, maze, paths = diary.thoughts, find_maze(lane.env), diary.paths
        assert thoughts is not None
        if maze is not None and paths is not None:
            yield 221, lambda ax: draw_close_up(ax, maze, diary.trail, paths, thoughts, 1.15 * self._reach)
        else:
            box: Any = self._agent.policy.action_space
            yield 221, lambda ax: draw_chunks(ax, thoughts, (float(box.low[0]), float(box.high[0])))
        yield 222, lambda ax: draw_flow(ax, thoughts)
        if thoughts.values is None:
            title = f"Q of a chunk planned now\n{self._agent.algo} has no critic"
            yield 212, lambda ax: ax.set(title=title, xticks=[], yticks=[])
        else:
            first = max(0, len(diary.values) - SHOWN_STEPS)
            values = np.array(diary.values[first:])
            yield 212, lambda ax: draw_values(ax, values, diary.planned, self._limits, first)


def find_maze(env: RepeatableEnv) -> MazeMap | None:
    """Return the plan of OGBench's mazes, as it is in the present episode; None for other environments."""
    raw: Any = env.env.unwrapped
    if not hasattr(raw, "maze_map") or not hasattr(raw, "cur_goal_xy"):
        return None
    gates = raw._teleport_info or {"teleport_in_xys": [], "teleport_out_xys": []}
    return MazeMap(
        walls=raw.maze_map,
        unit=raw._maze_unit,
        offset=(raw._offset_x, raw._offset_y),
        goal=tuple(raw.cur_goal_xy),
        gates=(gates["teleport_in_xys"], gates["teleport_out_xys"]),
    )


def draws_with_mujoco(env: RepeatableEnv) -> bool:
    """Return whether MuJoCo makes an environment's pictures; others have a library of their own."""
    origins = ("ogbench.", "gymnasium.envs.mujoco", "zoo.envs.robosuite")
    return any(kind.__module__.startswith(origins) for kind in type(env.env.unwrapped).__mro__)


def _picture_size(agent: Agent, size: int) -> dict[str, Any]:
    """Return the arguments by which an environment makes pictures of about a given size."""
    spec = find_spec(agent.env_id)
    if observes_images(spec, agent.env_kwargs):
        return {}  # what it draws is what the agent sees, of the size that it has learnt
    return {"width": size, "height": size} if is_ogbench(spec) else {"render_mode": "rgb_array"}
