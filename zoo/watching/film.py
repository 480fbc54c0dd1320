"""From episodes to pictures: what of an agent's play is shown, and where it stands in a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from agents.common.sb3.policy import FlowPolicy
from zoo.envs.make import RepeatableEnv, find_spec, is_ogbench, observes_images
from zoo.envs.rendering import prepare_drawing
from zoo.errors import UsageError
from zoo.models.agent import Agent
from zoo.models.play import episode_text
from zoo.runs.read import short_name
from zoo.terminal.messages import log
from zoo.watching.pictures import (
    BAD,
    GOOD,
    INK,
    PAPER,
    Draw,
    MazeMap,
    captioned,
    draw_chunks,
    draw_close_up,
    draw_flow,
    draw_maze,
    draw_values,
    drawn,
    fitted,
    in_grid,
    widened,
)
from zoo.watching.stage import Imagination, Lane, Mind, Stage, Thoughts

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

    trail: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    planned: list[tuple[int, float]] = field(default_factory=list)
    thoughts: Thoughts | None = None
    paths: np.ndarray | None = None
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
            log.info("%s", episode_text((lane.episode or 0) + 1, lane.success, lane.length, lane.total))
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
        text, colour = f"episode {(lane.episode or 0) + 1}, step {lane.length}", INK
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
        return fitted(np.asarray(lane.env.render()), self._size)

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
