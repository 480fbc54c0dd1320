"""Number of random examples: a few fixed examples in a plain run, many new examples with ``make fuzz``."""

from hypothesis import HealthCheck, settings

SLOW_EXAMPLES = [HealthCheck.too_slow, HealthCheck.filter_too_much]

settings.register_profile(
    "short",
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=SLOW_EXAMPLES,
)
settings.register_profile(
    "long",
    max_examples=1000,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=SLOW_EXAMPLES,
)
settings.load_profile("short")  # loaded before pytest loads the profile of --hypothesis-profile
