"""Draw an agent's episodes with Matplotlib: camera pictures or maps of mazes, and the plans of its policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from zoo.envs.make import find_spec, is_ogbench, observes_images
from zoo.envs.rendering import prepare_drawing
from zoo.envs.repeatable import RepeatableEnv
from zoo.models.agent import Agent
from zoo.runs.folder import short_name
from zoo.terminal.errors import UsageError
from zoo.watching.stage import (
    PolicyInspector,
    RolloutSimulator,
    RunningEpisode,
    SampledPlans,
    Stage,
)

Array: TypeAlias = np.ndarray

PAPER, INK, FAINT = "#ffffff", "#21252e", "#687080"
FLOOR, WALL = "#f1f3f6", "#3e4656"
AGENT, GOAL, TRAIL, PLAYED = "#145ac8", "#cd283c", "#78a0e1", "#0f1217"
ENTRANCE, EXIT = "#963cbe", "#3ca06e"
"""Colours of the teleports of a maze."""
VALUES = LinearSegmentedColormap.from_list("values", ["#3a60c8", "#9696a0", "#e26a14"])
"""From the lowest value to the highest."""
LEGEND = "black: played; orange: high Q"
STYLE: dict[Any, Any] = {
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
    # cells of the map are centred on multiples of the unit, shifted by the maze's offset
    ax.imshow(
        maze.maze_map == 1,
        ListedColormap([FLOOR, WALL]),
        origin="lower",
        extent=extent,
        vmin=0,
        vmax=1,
    )
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


def draw_lines(ax: Axes, lines: Array, plans: SampledPlans) -> None:
    """Draw a line for each chunk, (N, points, 2), that ends in a disc; the one that is played is black."""
    colours = colours_of(plans)
    played = lines[plans.played]
    ax.add_collection(LineCollection(list(lines), colors=colours, linewidths=1.4))
    ax.scatter(lines[:, -1, 0], lines[:, -1, 1], s=12, c=colours, zorder=3)
    ax.plot(*played.T, "o-", color=PLAYED, linewidth=2.2, markevery=[-1], markersize=5, zorder=3)


def colours_of(plans: SampledPlans) -> Array:
    """Return a colour for each chunk by its value among theirs; one colour where all are equal, or there are none."""
    values = plans.values
    if values is None:
        values = np.zeros(len(plans.chunks))
    return np.asarray(VALUES(Normalize()(values)))


def draw_flow(ax: Axes, plans: SampledPlans) -> None:
    """Draw the paths of the flow from noise (rings) to the first actions of chunks (discs).

    An action of one number is drawn over the steps of the flow, others by their first two numbers.
    """
    lines = np.stack(plans.stages, 1)  # (N, steps + 1, A)
    if lines.shape[2] == 1:
        steps = np.broadcast_to(np.arange(lines.shape[1])[:, None], lines.shape)
        points = np.concatenate([steps, lines], 2)
        ax.set(xlabel="step of the flow", ylabel="action")
    else:
        points = lines[:, :, :2]
        ax.set(xlim=(-3, 3), xlabel="first action, coordinate 1", ylabel="coordinate 2")
    rims = [to_hex(colour) for colour in colours_of(plans)]
    ax.scatter(points[:, 0, 0], points[:, 0, 1], s=16, facecolors=PAPER, edgecolors=rims, zorder=3)
    draw_lines(ax, points, plans)
    ax.set(ylim=(-3, 3), title="From noise to action\nrings: noise; discs: actions")


def draw_chunks(ax: Axes, plans: SampledPlans) -> None:
    """Draw the first coordinate of sampled chunks over their steps."""
    first = plans.chunks[:, :, 0]
    steps = np.broadcast_to(np.arange(1, first.shape[1] + 1), first.shape)
    draw_lines(ax, np.stack([steps, first], 2), plans)
    ax.set(xlabel="step of the chunk", ylabel="coordinate 1", title=f"Sampled chunks\n{LEGEND}")


def draw_values(ax: Axes, values: Sequence[Array], planned: Mapping[int, float]) -> None:
    """Draw the values of sampled chunks at each step, and those of the chunks that were played.

    :param values: of the samples at each step, (N,).
    :param planned: step at which a played chunk was planned -> its value.
    """
    steps = range(len(values))
    sampled = np.array(values)
    ax.fill_between(steps, sampled.min(1), sampled.max(1), color="#cddcf5", linewidth=0)
    ax.plot(steps, sampled.mean(1), color=AGENT, linewidth=2)
    ax.plot(list(planned), list(planned.values()), "o", color=PLAYED)
    note = "line: mean of the samples; band: all of them; dots: chunks begun"
    ax.set(xlabel="step", title=f"Q of a chunk planned now: {sampled[-1].mean():.1f}\n{note}")


ALONE, TILE, EXPLAINED = 480, 256, 560
"""Size in pixels of the picture of an episode alone, of one among several, and of one beside plans."""
HEAD = 64
"""Height in pixels of the title above."""


class Film:
    """Makes a picture of each moment of an agent's episodes.

    :param grid: rows and columns of episodes that are shown together.
    :param explain: whether to draw the plans of the policy.
    :param has_camera: whether MuJoCo renders here; mazes are drawn as maps without it.
    :raises UsageError: if the plans cannot be drawn.
    """

    def __init__(
        self,
        agent: Agent,
        grid: tuple[int, int] = (1, 1),
        explain: bool = False,
        has_camera: bool = True,
    ) -> None:
        if explain and not (
            isinstance(agent.policy, FlowPolicy) and agent.policy.num_replicas == 1
        ):
            raise UsageError(
                f"`--explain` shows the plans of a flow policy, got {agent.algo}, which has none; leave it out"
            )
        self._agent = agent
        self._rows, self._columns = grid
        self._size = TILE
        if explain:
            self._size = EXPLAINED
        elif grid == (1, 1):
            self._size = ALONE
        spec = find_spec(agent.env_id)
        self._sees_pictures = observes_images(spec, agent.env_kwargs)
        camera: dict[str, Any] = {}
        if not self._sees_pictures:  # else the policy needs images of its own size
            camera = {"render_mode": "rgb_array"}
            if is_ogbench(spec):
                camera = {"width": self._size, "height": self._size}
        self.stage = Stage(agent, self._rows * self._columns, camera)
        # a map shows planned paths, and replaces the camera where MuJoCo cannot render
        is_maze = find_maze(self.stage.envs[0]) is not None
        self._uses_map = is_maze and (explain or not has_camera)
        self._inspector: PolicyInspector | None = None
        self._simulator: RolloutSimulator | None = None
        if explain:
            self._inspector = PolicyInspector(agent.policy)  # type: ignore[arg-type]  # a FlowPolicy, see above
            if is_maze:
                self._simulator = RolloutSimulator(agent)
        self._reach = 0.1  # metres, the longest way of a sampled chunk so far

    def pictures(self, interval: int = 1) -> Iterator[tuple[Array, bool]]:
        """Play all episodes; yield a picture every `interval` steps, and whether it is the last one of its episodes.

        A picture has the shape (height, width, 3).
        """
        for moment, episodes in enumerate(self.stage.play()):
            for episode in episodes:
                self._remember(episode)
            is_last = all(episode.is_over for episode in episodes)
            if moment % interval == 0 or is_last:
                yield self._picture(episodes), is_last

    def close(self) -> None:
        """Close the environments."""
        self.stage.close()
        if self._simulator is not None:
            self._simulator.close()

    def _remember(self, episode: RunningEpisode) -> None:
        """Add a moment to what is drawn of an episode."""
        if self._uses_map:
            episode.trail.append(np.array(episode.env.env.unwrapped.get_xy()))  # type: ignore[attr-defined]  # a maze
        if episode.is_over or self._inspector is None:
            return
        plans = self._inspector.sample(episode)
        if plans.values is not None:
            episode.values.append(plans.values)
        if episode.has_new_chunk:
            episode.plans = plans
            if plans.values is not None:
                episode.planned[episode.totals.length] = float(plans.values[plans.played])
            if self._simulator is not None:
                episode.paths = self._simulator.paths(episode.env, plans.chunks)
                reach = np.abs(episode.paths - episode.paths[:, :1]).max().item()
                self._reach = max(self._reach, reach)

    def _picture(self, episodes: Sequence[RunningEpisode]) -> Array:
        """Return the picture of a moment: a scene for each episode, or one beside the plans in it."""
        width = self._columns * self._size
        height = self._rows * self._size + HEAD
        with matplotlib.rc_context(STYLE):
            figure = Figure(dpi=100)
            top = 1 - HEAD / height
            if self._inspector is not None:
                width = 2 * self._size
                axes = figure.subplot_mosaic("ssab;sscc")
                figure.subplots_adjust(0.01, 0.08, 0.98, top - 0.03, 0.5, 0.45)
                self._draw_plans(axes["a"], axes["b"], axes["c"], episodes[0])
                scenes = [axes["s"]]
            else:
                scenes = list(figure.subplots(self._rows, self._columns, squeeze=False).flat)
                figure.subplots_adjust(0, 0, 1, top, 0.02, 0.12)
            figure.set_size_inches(width / 100, height / 100)
            for ax in scenes:
                ax.set_axis_off()  # the last episodes may be fewer than the places
            for ax, episode in zip(scenes, episodes, strict=False):
                self._draw_scene(ax, episode)
            text = f"{self._agent.algo} in {short_name(self._agent.env)}"
            successes = [e.success for e in self.stage.episodes if e.success is not None]
            if successes:
                text += f": {sum(successes)} of {len(successes)} succeeded"
            figure.suptitle(text, x=0.01, ha="left", size=11)
            canvas: Any = FigureCanvasAgg(figure)
            canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3]

    def _draw_scene(self, ax: Axes, episode: RunningEpisode) -> None:
        """Draw the camera's picture, or the map with what is planned."""
        if self._uses_map:
            draw_maze(ax, find_maze(episode.env), episode.trail)
            if episode.paths is not None and episode.plans is not None:
                draw_lines(ax, episode.paths, episode.plans)
        else:
            # an agent that sees pictures is shown as it sees the scene
            if not self._sees_pictures:
                prepare_drawing(episode.env.env.unwrapped)
            ax.imshow(np.asarray(episode.env.render()))
        ending = ""
        if episode.is_over and episode.success is not None:
            ending = ": success" if episode.success else ": failure"
        ax.set_title(f"episode {episode.number + 1}, step {episode.totals.length}{ending}", size=10)

    def _draw_plans(self, close_up: Axes, flow: Axes, below: Axes, episode: RunningEpisode) -> None:
        """Draw the panels beside a scene."""
        plans = episode.plans
        paths = episode.paths
        assert plans is not None
        for ax in (close_up, flow, below):
            ax.grid(True)
            ax.locator_params(nbins=4)
        if paths is None:
            draw_chunks(close_up, plans)
        else:
            draw_maze(close_up, find_maze(episode.env), episode.trail)
            draw_lines(close_up, paths, plans)
            x, y = paths[0, 0]
            # the longest way so far, so that the scale of the close-up does not jump
            reach = 1.15 * self._reach
            close_up.set(
                xlim=(x - reach, x + reach),
                ylim=(y - reach, y + reach),
                title=f"Planned paths\n{LEGEND}",
            )
        draw_flow(flow, plans)
        if plans.values is None:
            below.set(
                title=f"Q of a chunk planned now\n{self._agent.algo} has no critic",
                xticks=[],
                yticks=[],
            )
        else:
            draw_values(below, episode.values, episode.planned)


def find_maze(env: RepeatableEnv) -> Any:
    """Return an environment without its wrappers if it is one of OGBench's mazes, else None."""
    maze: Any = env.env.unwrapped
    is_maze = hasattr(maze, "maze_map") and hasattr(maze, "cur_goal_xy")
    return maze if is_maze else None


def draws_with_mujoco(env: RepeatableEnv) -> bool:
    """Return whether MuJoCo makes an environment's pictures; others have a library of their own."""
    origins = ("ogbench.", "gymnasium.envs.mujoco", "zoo.envs.robomimic")
    return any(kind.__module__.startswith(origins) for kind in type(env.env.unwrapped).__mro__)
