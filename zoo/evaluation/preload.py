"""Module that the fork server of environment processes imports before the simulator's module."""

import zoo.evaluation.pool  # noqa: F401  every environment process needs it
from zoo.envs.make import ignore_startup_warnings

# the filters of the fork server, where no environment runs, are inherited by the processes forked from it
ignore_startup_warnings()
