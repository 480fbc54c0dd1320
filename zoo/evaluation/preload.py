"""Module that the fork server of environment processes imports before the simulator's module."""

import zoo.evaluation.pool  # noqa: F401  every environment process needs it
from zoo.envs.make import ignore_startup_warnings

# the environment processes, which are forked from the fork server, inherit its warning filters
ignore_startup_warnings()
