"""Draw the action chunks that QAM samples in a maze: python explain.py qam.gif."""

import sys
from importlib.resources import files

import gymnasium
import imageio.v2 as imageio
import numpy as np
import ogbench  # noqa: F401  registers the mazes
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import coolwarm
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

import agents

ENV = "pointmaze-medium-singletask-task1-v0"
TRAINED = files("zoo") / "trained/qam/pointmaze-medium-navigate-singletask-task1-v0.safetensors"
SAMPLES = 16  # chunks sampled in a state; the first one is executed
SEED = 0
STEPS_BETWEEN_PICTURES = 10


def sample_chunks(policy, observation, noise):
    """Integrate the flow from noise to action chunks.

    :param observation: shape (O,).
    :param noise: shape (1, SAMPLES, D), D = chunk length x action size.
    :return: states of the flow, (K + 1, SAMPLES, D), and the critics' values of the chunks, (SAMPLES,).
    """
    rows = torch.as_tensor(observation, dtype=torch.float32).expand(1, SAMPLES, -1)
    observations = policy.preprocess(rows)
    flow = policy.nets.fine_tuned.at(observations)
    steps = policy.method.flow_steps
    states = [noise]
    with torch.no_grad():
        for k in range(steps):
            states.append(states[-1] + flow(states[-1], k / steps) / steps)
        states[-1] = states[-1].clamp(-1, 1)
        values = policy.method.score(observations, states[-1], policy.nets)
    return torch.cat(states).numpy(), values[0].numpy()


def play_in_copy(copied, maze, chunks):
    """Return the positions, (SAMPLES, H + 1, 2), that chunks visit from a maze's state, without changing the maze."""
    paths = []
    for chunk in chunks:
        copied.set_state(maze.data.qpos, maze.data.qvel)
        path = [copied.get_xy().copy()]
        for action in chunk:
            copied.step(action)
            path.append(copied.get_xy().copy())
        paths.append(path)
    return np.array(paths)


def draw_maze(ax, maze):
    """Draw walls and goal from above."""
    unit = maze._maze_unit
    left, bottom = -unit / 2 - maze._offset_x, -unit / 2 - maze._offset_y
    rows, columns = maze.maze_map.shape
    extent = (left, left + columns * unit, bottom, bottom + rows * unit)
    walls = ListedColormap(["#f1f3f6", "#3e4656"])
    ax.imshow(maze.maze_map == 1, walls, origin="lower", extent=extent)
    ax.plot(*maze.cur_goal_xy, "o", color="#cd283c", markersize=14, fillstyle="none")
    ax.set_axis_off()


def draw_lines(ax, lines, values):
    """Draw the lines of the sampled chunks, (SAMPLES, points, 2), each ending in a dot; the executed one in black."""
    colours = coolwarm(Normalize()(values))
    ax.add_collection(LineCollection(list(lines), colors=colours, linewidths=1.4))
    ax.scatter(*lines[:, -1].T, s=12, c=colours, zorder=3)
    ax.plot(*lines[0].T, "o-", color="black", linewidth=2, markevery=[-1], markersize=5, zorder=3)


def draw(maze, trail, paths, states, history, title):
    """Return a picture, (height, width, 3): the map, the flow and the values so far."""
    figure = Figure((10, 5), dpi=80)
    axes = figure.subplot_mosaic("mmcf;mmqq")
    figure.subplots_adjust(0.01, 0.1, 0.98, 0.86, 0.25, 0.4)
    figure.suptitle(title, x=0.02, ha="left")
    draw_maze(axes["m"], maze)
    axes["m"].plot(*np.transpose(trail), color="#78a0e1", linewidth=2)
    axes["m"].plot(*trail[-1], "o", color="#145ac8", markersize=9)
    draw_maze(axes["c"], maze)
    draw_lines(axes["c"], paths, history[-1])
    x, y = trail[-1]
    axes["c"].set(xlim=(x - 1.5, x + 1.5), ylim=(y - 1.5, y + 1.5), title="paths of the chunks")
    first_actions = states[:, :, :2].swapaxes(0, 1)  # (SAMPLES, K + 1, 2)
    draw_lines(axes["f"], first_actions, history[-1])
    axes["f"].plot(*first_actions[:, 0].T, "o", fillstyle="none", color="grey", markersize=4)
    axes["f"].set(xlim=(-3, 3), ylim=(-3, 3), title="from noise to action")
    values = np.array(history)
    plans = range(len(values))
    axes["q"].fill_between(plans, values.min(1), values.max(1), color="#cddcf5")
    axes["q"].plot(plans, values[:, 0], color="black")
    axes["q"].set(title="Q of the sampled chunks; black: the executed one", xlabel="chunk")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def main():
    """Play one episode and record it."""
    policy = agents.load_policy(TRAINED, device="cpu")
    env, copied = gymnasium.make(ENV), gymnasium.make(ENV).unwrapped
    copied.reset(seed=SEED)
    generator = torch.Generator().manual_seed(SEED)
    # only the executed chunk gets new noise, so that the other chunks change only with the state
    noise = torch.randn((1, SAMPLES, policy.chunk_size), generator=generator)
    observation, _ = env.reset(seed=SEED)
    maze = env.unwrapped
    trail, history, pictures = [maze.get_xy().copy()], [], []
    is_over = False
    while not is_over:
        noise[:, 0] = torch.randn(policy.chunk_size, generator=generator)
        states, values = sample_chunks(policy, observation, noise)
        history.append(values)
        chunks = states[-1].reshape(SAMPLES, -1, *env.action_space.shape)  # (SAMPLES, H, A)
        chunks = policy.unscale_action(chunks)
        paths = play_in_copy(copied, maze, chunks)
        for action in chunks[0]:
            if (len(trail) - 1) % STEPS_BETWEEN_PICTURES == 0:
                title = f"QAM in {ENV}, step {len(trail) - 1}"
                pictures.append(draw(maze, trail, paths, states, history, title))
            observation, _, terminated, truncated, info = env.step(action)
            trail.append(maze.get_xy().copy())
            is_over = terminated or truncated
            if is_over:
                break
    ending = "success" if info["success"] else "failure"
    title = f"QAM in {ENV}, step {len(trail) - 1}: {ending}"
    pictures.append(draw(maze, trail, paths, states, history, title))
    imageio.mimsave(sys.argv[1], pictures + [pictures[-1]] * 16, duration=50, loop=0)
    print(f"{title}, {sys.argv[1]}")


if __name__ == "__main__":
    main()
