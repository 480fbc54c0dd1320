"""The settings that a profile gives an algorithm on an environment: what own runs are compared with.

The algorithm's class knows the settings that no file states, so this module imports torch; programs import it late.
"""

from __future__ import annotations

from functools import cache, reduce

from zoo.config import load_config
from zoo.errors import UsageError
from zoo.layers import DEFAULT_PROFILE, merge, shared_profile
from zoo.report.published_scores import published_names
from zoo.runs.protocol import describe_settings
from zoo.runs.read import split_environment


@cache
def expected_settings(published: str, environment: str, profile: str | None) -> dict[str, str] | None:
    """Return the settings of a published algorithm, in the form of `zoo.runs.protocol.describe_settings`.

    :param published: the name under which it is published.
    :param profile: the profile of the published scores; None: the default one.
    :return: None for a profile that does not exist; for an algorithm that this zoo does not have, what the profile says
        to all of them.
    """
    ids = {name: algorithm for algorithm, name in published_names().items()}
    domain, profile = split_environment(environment)[1], profile or DEFAULT_PROFILE
    if published not in ids:
        layers = [
            shared_profile(name).get(entry, {}) for name in (DEFAULT_PROFILE, profile) for entry in ("default", domain)
        ]
        return describe_settings(reduce(merge, layers))
    try:
        config = load_config(ids[published], environment, domain, profile=profile)
    except UsageError:
        return None
    return describe_settings(config.record()["settings"])
