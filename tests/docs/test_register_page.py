"""The page on registering an agent: its Python code runs as it stands."""

import numpy as np
import pytest

from tests import code_blocks
from tests.agents.testing.mistakes import example


@pytest.fixture(autouse=True)
def _folder(write_agent):
    """Put the page's agent, and data of Pendulum that mean nothing, into the current folder."""
    write_agent(example(), "my_agents")
    draw, rows = np.random.default_rng(0), 400
    states = draw.normal(size=(rows + 1, 3))
    arrays = {"observations": states[:-1], "next_observations": states[1:]}
    arrays |= {
        "actions": draw.uniform(-2, 2, (rows, 1)),
        "rewards": draw.normal(size=rows),
        "masks": np.ones(rows),
    }
    ends = np.arange(rows) % 200 == 199
    np.savez(
        "my.npz",
        **{name: value.astype(np.float32) for name, value in arrays.items()},
        terminals=ends,
    )


@pytest.mark.parametrize("name", ["in_python", "by_hand"])
def test_the_code_of_the_page_runs(name):
    (code,) = code_blocks("docs/register.md", f"py\n# {name}.py")
    fewer = code.replace("(200, ", "(20, ").replace("(300, ", "(30, ")
    exec(compile(fewer, f"{name}.py", "exec"), {})
