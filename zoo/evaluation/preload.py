"""Module that the fork server of environment processes imports before the simulator's module."""

import zoo.evaluation.pool  # noqa: F401  for every environment process
from zoo.envs.make import ignore_startup_warnings

# takes effect in the fork server, where no environment runs, and in all processes forked from it
ignore_startup_warnings()
