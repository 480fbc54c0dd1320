"""What watched networks record, and that they do what the networks do."""

from __future__ import annotations

import pytest
import torch

from agents.common.checks.watched import WatchedNetworks
from agents.common.maths.flow import integrate_flow
from agents.common.nets.heads import Networks
from tests.common.toys import normals, tiny_model


@pytest.fixture
def nets() -> Networks:
    return tiny_model("qam").policy.nets


def test_a_flow_passes_its_euler_states(nets: Networks) -> None:
    watched, x_0, rows = WatchedNetworks(nets), normals(1, 5, 6), normals(1, 5, 4, seed=1)
    with torch.no_grad():
        end = integrate_flow(watched.fine_tuned.at(rows), x_0, 3)
        expected, x = [], x_0
        for step in range(3):
            expected.append(x)
            x = x.add(nets.fine_tuned.at(rows)(x, step / 3), alpha=1 / 3)
    torch.testing.assert_close(end, x, rtol=0, atol=0)
    assert [visit.network for visit in watched.visits] == ["fine_tuned"] * 3
    assert [visit.t for visit in watched.visits] == [0, 1 / 3, 2 / 3]
    for visit, state in zip(watched.visits, expected, strict=True):
        assert torch.equal(visit.x, state)


def test_names_are_those_of_the_networks_whatever_stands_for_them(nets: Networks) -> None:
    watched = WatchedNetworks(nets)
    rows, actions = normals(1, 5, 4), normals(1, 5, 6)
    found = watched.using(critic="critic_target").frozen.critic(rows, actions)
    assert torch.equal(found, nets.critic_target(rows, actions))
    assert not found.requires_grad
    assert watched.used == {"critic_target"}
    assert dict(watched.items()) == dict(nets.items())
    assert watched.used == set(nets)


def test_a_one_step_map_is_visited_once_at_its_noise() -> None:
    policy = tiny_model("fql").policy
    watched, noise = WatchedNetworks(policy.nets), policy.draw_action_noise(2, torch.Generator())
    policy.sample(normals(1, 2, 4).numpy(), {name: draw[None] for name, draw in noise.items()}, watched)
    (visit,) = watched.visits
    assert (visit.network, visit.t) == ("one_step", None)
    assert torch.equal(visit.x, noise["action"][None])
