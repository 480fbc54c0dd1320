"""The page about registering an agent: its Python code runs unchanged."""

import numpy as np
import pytest

from tests import code_blocks
from tests.agents.testing.mistakes import example
from tests.common.toys import toy_dataset


@pytest.fixture(autouse=True)
def _folder(write_agent):
    """Write the page's agent and a meaningless dataset of Pendulum into the current folder."""
    write_agent(example(), "my_agents")
    np.savez("my.npz", **toy_dataset(400, 3, 1, length=200))


@pytest.mark.parametrize("name", ["in_python"])
def test_the_code_of_the_page_runs(name):
    (code,) = code_blocks("docs/register.md", f"py\n# {name}.py")
    fewer = code.replace("(200, ", "(20, ").replace("(300, ", "(30, ")
    exec(compile(fewer, f"{name}.py", "exec"), {})
