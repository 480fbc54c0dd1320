"""A velocity field that is known in closed form, independent of the code under test.

A Gaussian behaviour N(m, s^2 I) has, on the straight path from noise, the marginal N(t m, V_t) with
V_t = t^2 s^2 + (1-t)^2, and the velocity v(x, t) = m + c_t (x - t m) with c_t = (t s^2 - (1-t)) / V_t.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Gaussian:
    """Behaviour N(m, s^2 I), usable as a velocity field."""

    m: float
    s: float

    def slope(self, t):
        """Return c_t."""
        return (t * self.s**2 - (1 - t)) / self.variance(t)

    def variance(self, t):
        """Return V_t."""
        return t**2 * self.s**2 + (1 - t) ** 2

    def __call__(self, x, t):
        t = torch.as_tensor(t, dtype=x.dtype)
        return self.m + self.slope(t) * (x - t * self.m)
