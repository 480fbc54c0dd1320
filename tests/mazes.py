"""A small maze seen from above, for training on images: draw_images with NumPy, without a simulator or a renderer."""

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

MAP = (
    "########",
    "#.....G#",
    "#......#",
    "#..#####",
    "#..#####",
    "#......#",
    "#.....S#",
    "########",
)
WALLS = np.array([[letter == "#" for letter in line] for line in MAP])
START, GOAL = np.array([6.5, 6.5]), np.array([1.5, 6.5])
STEP, REACH = 0.5, 0.5  # the longest step and the goal's radius, in cells
EPISODE = 100  # steps
CELL = 4  # pixels
SIDE = CELL * len(MAP)
# Centres of the pixels, in cells.
PIXELS = (np.stack(np.mgrid[:SIDE, :SIDE], -1).astype(np.float32) + 0.5) / CELL


def disc_cover(positions):
    """Return how much of each pixel a disc at positions (..., 2) covers, (..., 32, 32, 1); its edge is soft."""
    away = PIXELS - np.float32(positions)[..., None, None, :]
    distance = np.linalg.norm(away, axis=-1, keepdims=True)
    return np.clip(0.5 - distance, 0, 1 / CELL) * CELL


BACKGROUND = np.kron(WALLS, np.full((CELL, CELL), 90))[..., None] + disc_cover(GOAL) * (0, 200, 0)


def draw_images(positions):
    """Return images (..., 32, 32, 3) of walls, the goal and a point at positions (..., 2)."""
    cover = disc_cover(positions)
    return (cover * (255, 80, 0) + (1 - cover) * BACKGROUND).round().astype(np.uint8)


def move(position, action):
    """Return where a step leads; what would enter a wall is left out, row and column each by itself."""
    target = position.copy()
    for axis in (0, 1):
        candidate = target.copy()
        candidate[axis] += STEP * np.clip(action[axis], -1, 1)
        if not WALLS[tuple(candidate.astype(int))]:
            target = candidate
    return target


def is_at_goal(position):
    return bool(np.linalg.norm(position - GOAL) < REACH)


class VisualMaze(gymnasium.Env[NDArray[np.uint8], NDArray[np.float32]]):
    """A point goes from S around the wall to G; each step costs 1. Positions are (row, column), in cells."""

    observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.elapsed = START, 0
        return draw_images(self.position), {}

    def step(self, action):
        self.position, self.elapsed = move(self.position, action), self.elapsed + 1
        is_reached = is_at_goal(self.position)
        return (
            draw_images(self.position),
            -1.0,
            is_reached,
            self.elapsed == EPISODE,
            {"is_success": is_reached},
        )


def wandering_dataset(trajectories, length=50, seed=0):
    """Return a dataset of points that begin anywhere, hold a random direction for some steps, and bump into walls."""
    draw = np.random.default_rng(seed)
    free = np.argwhere(~WALLS)
    positions = np.zeros((trajectories, length + 1, 2))
    actions = np.zeros((trajectories, length, 2), np.float32)
    for position, action in zip(positions, actions, strict=True):
        position[0] = free[draw.integers(len(free))] + draw.uniform(0.1, 0.9, 2)
        direction = draw.uniform(-1, 1, 2)
        for step in range(length):
            if draw.random() < 0.2:
                direction = draw.uniform(-1, 1, 2)
            action[step] = np.clip(direction + 0.2 * draw.standard_normal(2), -1, 1)
            position[step + 1] = move(position[step], action[step])
    images = np.stack([draw_images(path) for path in positions])
    rows = trajectories * length
    return {
        "observations": images[:, :-1].reshape(rows, *images.shape[2:]),
        "next_observations": images[:, 1:].reshape(rows, *images.shape[2:]),
        "actions": actions.reshape(rows, 2),
        "rewards": np.full(rows, -1, np.float32),
        "masks": np.float32([not is_at_goal(place) for place in positions[:, 1:].reshape(rows, 2)]),
        "terminals": np.tile(np.arange(length) == length - 1, trajectories).astype(np.float32),
    }
