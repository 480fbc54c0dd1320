"""The page about registering an agent: its Python code runs unchanged."""

import numpy as np

from tests import code_blocks
from tests.agents.testing.mistakes import example
from tests.common.toys import toy_dataset


def test_the_code_of_the_page_runs(write_agent):
    write_agent(example(), "my_agents")
    np.savez("my.npz", **toy_dataset(400, 3, 1, length=200))  # meaningless data of Pendulum
    (code,) = code_blocks("docs/register.md", "py\n# in_python.py")
    fewer = code.replace("(200, ", "(20, ").replace("(300, ", "(30, ").replace("=100)", "=10)")
    exec(compile(fewer, "in_python.py", "exec"), {})
