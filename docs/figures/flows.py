"""Draw flows.svg: a behaviour flow, its memoryless rollout with adjoints, and the fine-tuned flow, all in closed form.

``python docs/figures/flows.py`` writes it. The behaviour is a mixture of two normal distributions on a line and Q is
linear, so behaviour x exp(tau Q) is such a mixture too, and the velocity fields of both are known exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from agents.common.maths.adjoint import lean_adjoint, memoryless_rollout, memoryless_sigmas

Velocity: TypeAlias = Callable[[Tensor, Tensor | float], Tensor]
MEANS, DEVIATION, WEIGHTS = torch.tensor([-0.8, 0.7]), 0.18, torch.tensor([0.7, 0.3])
SLOPE = 1.6
"""Of tau Q."""
STEPS = 30  # of Euler's method
GREY, BLUE, ORANGE = "#767d85", "#3b82d0", "#d9731a"
STYLE = {
    "svg.hashsalt": "flows", "svg.fonttype": "path", "font.size": 9, "text.color": GREY, "axes.labelcolor": GREY,
    "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY, "axes.titlesize": 10, "axes.titlecolor": GREY,
}  # fmt: skip


def tilted() -> tuple[Tensor, Tensor]:
    """Return means and weights of behaviour x exp(tau Q): each part moves, and those where Q is high gain weight."""
    weights = WEIGHTS * torch.exp(SLOPE * MEANS)
    return MEANS + SLOPE * DEVIATION**2, weights / weights.sum()


def velocity_of(means: Tensor, weights: Tensor) -> Velocity:
    """Return the velocity field E[x_1 - x_0 | x_t = x] of a mixture, for x (..., 1)."""

    def velocity(x: Tensor, t: Tensor | float) -> Tensor:
        t = torch.as_tensor(t)
        variance = (1 - t) ** 2 + (t * DEVIATION) ** 2
        distances = x - t * means
        # the probability of each part given x, and its own normal's conditional mean of x_1 - x_0
        shares = torch.softmax(weights.log() - distances.square() / (2 * variance), -1)
        slope = (t * DEVIATION**2 - (1 - t)) / variance
        return (shares * (means + slope * distances)).sum(-1, keepdim=True)

    return velocity


def euler_path(velocity: Velocity, x_0: Tensor) -> Tensor:
    """Return the states of a flow from x_0 (B, 1), (STEPS + 1, B)."""
    states = [x_0]
    for step in range(STEPS):
        states.append(states[-1] + velocity(states[-1], step / STEPS) / STEPS)
    return torch.stack(states)[..., 0]


def draw() -> Figure:
    """Return the figure."""
    torch.manual_seed(3)
    figure = Figure(figsize=(9.0, 3.1), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    behaviour, fine_tuned = velocity_of(MEANS, WEIGHTS), velocity_of(*tilted())
    noise = Normal(0.0, 1.0).icdf(torch.linspace(0.02, 0.98, 25)).unsqueeze(-1)
    times = np.linspace(0, 1, STEPS + 1)
    axes[0].plot(times, euler_path(behaviour, noise), color=BLUE, lw=0.8)
    draw_rollout(axes[1], behaviour, fine_tuned)
    axes[2].plot(times, euler_path(fine_tuned, noise), color=ORANGE, lw=0.8)
    titles = ("1. behaviour flow", "2. rollout and adjoints", "3. fine-tuned flow")
    for axis, title in zip(axes, titles, strict=True):
        label(axis, title)
    axes[0].set_ylabel("action")
    for axis in axes[1:]:
        draw_density(axis, *tilted(), ORANGE)
    for axis in axes[::2]:
        draw_density(axis, MEANS, WEIGHTS, BLUE)
    return figure


def draw_rollout(axis: Axes, behaviour: Velocity, fine_tuned: Velocity) -> None:
    """Draw memoryless rollouts of the fine-tuned flow, and at some states what the adjoint adds to the velocity."""
    x_0, noise = torch.linspace(-1.5, 1.5, 6).view(1, 6, 1), torch.randn(1, STEPS, 6, 1)
    states, _, end = memoryless_rollout(fine_tuned, behaviour, x_0, noise)
    states = torch.cat([states, end.unsqueeze(1)], 1)
    adjoints = lean_adjoint(behaviour, states[:, :-1], torch.full((1, 6, 1), -SLOPE))
    change = -(memoryless_sigmas(STEPS, states).square() / 2 * adjoints)[0, ..., 0]
    axis.plot(np.linspace(0, 1, STEPS + 1), states[0, ..., 0], color=GREY, lw=0.7, alpha=0.8)
    steps = np.arange(6, STEPS, 4)  # more arrows would hide the paths
    times = steps / STEPS
    for path in range(6):
        axis.quiver(times, states[0, steps, path, 0], 0 * times, change[steps, path], angles="xy", scale_units="xy",
                    scale=3.0, color=ORANGE, width=0.007, minlength=0.4, zorder=3)  # fmt: skip


def draw_density(axis: Axes, means: Tensor, weights: Tensor, colour: str) -> None:
    """Draw a density to the right of t = 1."""
    x = torch.linspace(-2.3, 2.3, 300)
    mixture = MixtureSameFamily(Categorical(weights), Normal(means, torch.tensor(DEVIATION)))
    height = 1.04 + 0.16 * mixture.log_prob(x).exp()
    axis.fill_betweenx(x, 1.04, height, color=colour, alpha=0.35, lw=0)
    axis.plot(height, x, color=colour, lw=1.0)


def label(axis: Axes, title: str) -> None:
    """Set titles, limits and ticks."""
    axis.set(title=title, xlabel="flow time t: noise at 0, action at 1")
    axis.set(xlim=(0, 1.34), ylim=(-2.3, 2.3), xticks=[0, 0.5, 1])
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    with mpl.rc_context(STYLE):
        draw().savefig(
            Path(__file__).with_name("flows.svg"), transparent=True, metadata={"Date": None}
        )
