"""Sampled sequences, compared with a plain step-by-step implementation of an H-step sequence."""

import itertools
import warnings
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.common.data.helpers import all_sequences, compacted, empty_buffer, rows_of
from tests.common.toys import refuses, seeded

ENDINGS = ("terminated", "truncated", "jump")
"""How a trajectory ends: the task terminates, a time limit truncates, or other transitions follow."""


@dataclass(frozen=True)
class Step:
    """One transition; each observation and each action is a unique number."""

    observation: float
    action: float
    reward: float
    mask: float
    next_observation: float
    is_last: bool


@dataclass(frozen=True)
class Case:
    """A buffer: its settings, the trajectories of its dataset, and the steps of each environment."""

    horizon: int
    gamma: float
    chunked: bool
    shortens: bool
    sparse: bool
    balanced: bool
    bootstraps_timeouts: bool
    replicas: int
    envs: int
    size: int
    layout: str
    storage: str
    dataset: list[list[Step]]
    online: list[list[tuple[float, str]]]
    """Reward of each environment and how its trajectory continues, or one pair ``(0, "restart")`` for all of them."""


# -- the definition ---------------------------------------------------------------------------------------------------


def sequence(stream, start, case):
    """Return (observation, actions, return, discount, valid, next observation) of the sequence from a position."""
    total, mask, in_trajectory, length = 0.0, 1.0, True, 0
    next_observation = stream[start].next_observation
    for step in stream[start : start + case.horizon]:
        if in_trajectory:
            reward = -float(step.reward != 0) if case.sparse else step.reward
            total += case.gamma**length * reward
            mask = min(mask, step.mask)
            next_observation = step.next_observation
            length += 1
        is_valid = in_trajectory
        in_trajectory = in_trajectory and not (step.is_last or (case.shortens and step.mask == 0))
    if not case.shortens:
        length = case.horizon
    actions = [
        step.action for step in stream[start : start + (case.horizon if case.chunked else 1)]
    ]
    return (
        stream[start].observation,
        *actions,
        total,
        case.gamma**length * mask,
        float(is_valid or case.shortens),
        next_observation,
    )


def sequences(stream, case):
    min_length = 1 if case.shortens else case.horizon
    return [sequence(stream, start, case) for start in range(len(stream) - min_length + 1)]


def expected(case, streams):
    """Return the sequences that each replica may sample from the dataset and from its environments.

    In a buffer of one replica, the dataset continues with the first environment's transitions until some of these are
    overwritten, unless dataset and environments are kept apart.
    """
    dataset = [*itertools.chain(*case.dataset)]
    rings = [stream[-case.size :] for stream in streams]
    is_full = len(streams[0]) >= case.size
    envs_per_replica = case.envs // case.replicas
    parts = []
    for replica in range(case.replicas):
        begin = replica * envs_per_replica
        streams = rings[begin : begin + envs_per_replica]
        offline = dataset
        if case.replicas == 1 and not case.balanced and not is_full:
            offline, streams = dataset + streams[0], streams[1:]
        online = [sequences(stream, case) for stream in streams]
        parts.append((sequences(offline, case), [*itertools.chain(*online)]))
    return parts


# -- random cases -----------------------------------------------------------------------------------------------------

SMALL = st.integers(-8, 0).map(lambda eighths: eighths / 8)


@st.composite
def trajectories(draw, horizon):
    """Generate a dataset, with some trajectories as long as a chunk."""
    lengths = draw(st.lists(st.integers(1, 7), max_size=6))
    if not lengths:
        return []
    lengths.append(draw(st.integers(horizon, horizon + 4)))
    dataset, ids = [], itertools.count(1)
    for length in draw(st.permutations(lengths)):
        steps = []
        observation = next(ids)
        for k in range(length):
            mask = draw(st.sampled_from([1.0, 1.0, 0.0]))
            action, reward, is_last = observation / 1000, draw(SMALL), k == length - 1
            steps.append(Step(observation, action, reward, mask, next(ids), is_last))
            observation = steps[-1].next_observation
        dataset.append(steps)
    return dataset


@st.composite
def cases(draw):
    horizon = draw(st.integers(1, 5))
    replicas, envs_per_replica = draw(
        st.sampled_from([(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)])
    )
    envs = replicas * envs_per_replica
    outcomes = st.tuples(SMALL, st.sampled_from(["goes on", "goes on", "goes on", *ENDINGS]))
    size = draw(st.integers(1, 2 * horizon))
    steps = draw(st.integers(0, 3 * size))  # often enough steps to overwrite the first steps
    shortens = draw(st.booleans())
    moves = st.one_of(
        *3 * [st.lists(outcomes, min_size=envs, max_size=envs)], st.just([(0.0, "restart")])
    )
    return Case(
        horizon=horizon,
        gamma=draw(st.sampled_from([0.5, 0.9, 0.99, 1.0])),
        chunked=not shortens and draw(st.booleans()),
        shortens=shortens,
        sparse=draw(st.booleans()),
        balanced=draw(st.booleans()),
        bootstraps_timeouts=draw(st.booleans()),
        replicas=replicas,
        envs=envs,
        size=size,
        layout=draw(st.sampled_from(["regular", "compact", "timeouts", "unmarked"])),
        storage=draw(st.sampled_from(["device", "host"])),
        dataset=draw(trajectories(horizon)),
        online=draw(st.lists(moves, min_size=steps, max_size=steps)),
    )


# -- the buffer -------------------------------------------------------------------------------------------------------


def arrays(case):
    """Return the dataset in the case's layout."""
    steps = [*itertools.chain(*case.dataset)]

    def column(name):
        return np.array([getattr(step, name) for step in steps], np.float32)

    is_marked = case.layout in ("regular", "compact")
    dataset = {
        "observations": column("observation")[:, None],
        "actions": column("action")[:, None],
        "rewards": column("reward"),
        "masks": column("mask"),
        "terminals": column("is_last") * is_marked,
        "next_observations": column("next_observation")[:, None],
    }
    if case.layout == "timeouts":
        dataset["timeouts"] = column("is_last")
    return compacted(dataset) if case.layout == "compact" else dataset


def buffer_of(case):
    """Return a buffer with the dataset."""
    buffer = empty_buffer(
        case.size,
        case.envs,
        handle_timeout_termination=case.bootstraps_timeouts,
        horizon_length=case.horizon,
        gamma=case.gamma,
        action_chunking=case.chunked,
        replicas=case.replicas,
        sparse=case.sparse,
        balanced=case.balanced,
        shorten_returns=case.shortens,
        storage=case.storage,
    )
    if case.dataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ignore warnings about unmarked ends
            buffer.load_dataset(arrays(case))
    return buffer


def play(case, buffer):
    """Add the online transitions to a buffer, and return the stream of each environment."""
    streams = [[] for _ in range(case.envs)]
    ids = itertools.count(10_000)
    current = [float(next(ids)) for _ in range(case.envs)]
    for number, outcomes in enumerate(case.online):
        if outcomes == [(0.0, "restart")]:
            buffer.end_episodes()
            streams = [
                [*stream[:-1], replace(stream[-1], is_last=True)] if stream else []
                for stream in streams
            ]
            current = [float(next(ids)) for _ in range(case.envs)]
            continue
        dones = [outcome in ("terminated", "truncated") for _, outcome in outcomes]
        next_values = [float(next(ids)) for _ in outcomes]
        actions = [(number * case.envs + e) / 1000 for e in range(case.envs)]
        infos = [{"TimeLimit.truncated": outcome == "truncated"} for _, outcome in outcomes]
        column = np.array([current, next_values, actions], np.float32)[..., None]
        rewards = np.array([reward for reward, _ in outcomes], np.float32)
        buffer.add(column[0], column[1], column[2], rewards, np.array(dones), infos)
        for e, (reward, outcome) in enumerate(outcomes):
            ends_value = outcome == "terminated" or (
                outcome == "truncated" and not case.bootstraps_timeouts
            )
            step = Step(
                current[e],
                float(column[2, e, 0]),
                reward,
                float(not ends_value),
                next_values[e],
                outcome in ENDINGS,
            )
            streams[e].append(step)
            current[e] = float(next(ids)) if outcome in ENDINGS else next_values[e]
    return streams


def assert_same(rows, expected):
    """Compare sequences in any order; the first observation identifies a sequence."""
    np.testing.assert_allclose(sorted(rows), sorted(expected), rtol=1e-5, atol=1e-5)


# -- the tests --------------------------------------------------------------------------------------------------------


@given(cases(), st.integers(0, 2**31), st.integers(1, 9))
def test_sequences_that_can_be_drawn_are_those_of_the_definition(case, seed, size):
    buffer = buffer_of(case)
    streams = play(case, buffer)
    parts = expected(case, streams)
    assert {buffer.count_starts()} == {len(offline) + len(online) for offline, online in parts}
    if not buffer.count_starts():
        with refuses("sampling needs at least"):
            buffer.draw(4)
        return
    batch = all_sequences(buffer)
    sample = buffer.draw(size, generator=seeded(seed))
    for replica, (offline, online) in enumerate(parts):
        assert_same(rows_of(batch, replica), offline + online)
        rows = rows_of(sample, replica)
        by_observation = {row[0]: row for row in offline + online}
        assert_same(rows, [by_observation[row[0]] for row in rows])
        if case.balanced and offline and online:  # half of the batch from each
            is_offline = [row[0] in {first for first, *_ in offline} for row in rows]
            assert is_offline == [True] * (size // 2) + [False] * (size - size // 2)
