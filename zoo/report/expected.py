"""The settings that a profile gives an algorithm on an environment: what own runs of it are compared with.

The algorithm's class knows the settings that no file states, so this module imports torch; programs import it late.
"""

from __future__ import annotations

from functools import cache

from zoo.config import load_config
from zoo.errors import UsageError
from zoo.layers import DEFAULT_PROFILE
from zoo.report.published import published_names
from zoo.runs.protocol import describe_settings
from zoo.runs.read import split_environment


@cache
def expected_settings(published: str, environment: str, profile: str | None) -> dict[str, str] | None:
    """Return the settings of a published algorithm, in the form of `zoo.runs.protocol.describe_settings`.

    :param published: the name under which it is published.
    :param profile: the profile of the published scores; None: the default one.
    :return: None for an algorithm that this zoo does not have, or a profile that does not exist.
    """
    ids = {name: algorithm for algorithm, name in published_names().items()}
    if published not in ids:
        return None
    try:
        domain = split_environment(environment)[1]
        config = load_config(ids[published], environment, domain, profile=profile or DEFAULT_PROFILE)
    except UsageError:
        return None
    return describe_settings(config.record()["settings"])
