"""What the tests of tuning share."""

from tests.zoo.tuning.fakes import objective  # noqa: F401  a fixture
