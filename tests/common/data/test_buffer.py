"""The sequence buffer: layouts, online rings, masks, uniform starts, memory. Recorded numbers are in tests/parity."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor

from agents.common.batch import Batch
from agents.common.data import buffer as module
from agents.common.data.buffer import SequenceReplayBuffer
from benchmarks.kernels import KernelCounter
from tests.common.toys import toy_dataset
from tests.envs import SpacesEnv

Dataset = dict[str, NDArray[Any]]


def empty_buffer(
    size: int = 8, n_envs: int = 1, observations: int = 1, actions: int = 1, **settings: Any
) -> SequenceReplayBuffer:
    observation_space = spaces.Box(-np.inf, np.inf, (observations,), np.float32)
    action_space = spaces.Box(-1, 1, (actions,), np.float32)
    arguments = {"horizon_length": 3, "gamma": 0.9, **settings}
    return SequenceReplayBuffer(size * n_envs, observation_space, action_space, "cpu", n_envs, **arguments)


def loaded_buffer(dataset: Dataset, **settings: Any) -> SequenceReplayBuffer:
    buffer = empty_buffer(
        observations=dataset["observations"].shape[1], actions=dataset["actions"].shape[1], **settings
    )
    buffer.load_dataset(dataset)
    return buffer


def compacted(dataset: Dataset) -> Dataset:
    """Return a regular dataset in OGBench's compact layout: the final observation is one more row, with `valids` 0."""
    parts: dict[str, list[Any]] = {
        name: [] for name in ("observations", "actions", "rewards", "masks", "terminals", "valids")
    }
    for row in range(len(dataset["rewards"])):
        for name in ("observations", "actions", "rewards", "masks", "terminals"):
            parts[name].append(dataset[name][row])
        parts["valids"].append(1.0)
        if dataset["terminals"][row]:
            parts["observations"].append(dataset["next_observations"][row])
            parts["actions"].append(np.full_like(dataset["actions"][row], 0.123))
            for name, value in (("rewards", 7.0), ("masks", 0.0), ("terminals", 1.0), ("valids", 0.0)):
                parts[name].append(value)
    return {name: np.asarray(values, np.float32) for name, values in parts.items()}


def all_rows(buffer: SequenceReplayBuffer) -> Tensor:
    """Return the rows of every start that may be drawn, (S, starts, H)."""
    index = torch.arange(buffer.count_starts()).expand(buffer.replicas, -1)
    return buffer._rows_of(index)


def assert_same_batches(first: Batch, second: Batch) -> None:
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(second, name)), name


def assert_looked_up_batches_are_followed_ones(buffer: SequenceReplayBuffer) -> None:
    starts = torch.arange(buffer.count_starts()).expand(buffer.replicas, -1)
    assert buffer._table is not None
    assert_same_batches(buffer._batch_from(buffer._table, starts), buffer.batch_of(all_rows(buffer)))


class Recorder:
    """Feeds transitions to a buffer, and remembers each environment's stream: observation 100 e + step, action step."""

    def __init__(self, buffer: SequenceReplayBuffer) -> None:
        self.buffer, self.step = buffer, 0
        self.streams: list[list[dict[str, float]]] = [[] for _ in range(buffer.n_envs)]

    def add(self, ends: dict[int, str] | None = None, rewards: float = -1.0) -> None:
        """Add one transition of every environment; ``ends`` maps environments to "truncated" or "terminated"."""
        ends, envs = ends or {}, self.buffer.n_envs
        first = np.array([[100.0 * e + self.step] for e in range(envs)], np.float32)
        after = first + np.array([[0.5 if e in ends else 1.0] for e in range(envs)], np.float32)
        infos = [{"TimeLimit.truncated": ends.get(e) == "truncated"} for e in range(envs)]
        done = np.array([e in ends for e in range(envs)])
        action = np.full((envs, 1), self.step / 1000, np.float32)
        self.buffer.add(first, after, action, np.full(envs, rewards, np.float32), done, infos)
        for e in range(envs):
            mask = 0.0 if ends.get(e) == "terminated" else 1.0
            self.streams[e].append({"s": first[e, 0], "next": after[e, 0], "mask": mask, "end": float(e in ends)})
        self.step += 1

    def expected(self, env: int, start: int) -> tuple[float, ...]:
        """Return (s, R, discount, s', valid) of the sequence from a position of an environment's stream."""
        h, gamma = self.buffer.horizon_length, self.buffer.gamma
        total, mask, alive, after = 0.0, 1.0, 1.0, float("nan")
        for k in range(h):
            if k and self.streams[env][start + k - 1]["end"]:
                alive = 0.0
            if alive:
                row = self.streams[env][start + k]
                total, mask, after = total - gamma**k, min(mask, row["mask"]), row["next"]
        return (float(self.streams[env][start]["s"]), total, gamma**h * mask, float(after), alive)


def found_sequences(buffer: SequenceReplayBuffer, replica: int = 0) -> list[tuple[float, ...]]:
    """Return (s, R, discount, s', valid) of every start of a replica, rounded and sorted."""
    batch = buffer.batch_of(all_rows(buffer))
    columns = (batch.observations[..., 0], batch.rewards, batch.discounts, batch.next_observations[..., 0], batch.valid)
    return rounded([tuple(row) for row in torch.stack(columns, -1)[replica].tolist()])


def rounded(sequences: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    return sorted(tuple(round(value, 4) for value in row) for row in sequences)


# -- datasets ---------------------------------------------------------------------------------------------------------


def test_compact_and_regular_layouts_give_identical_samples() -> None:
    dataset = toy_dataset(60)
    regular, compact = loaded_buffer(dataset), loaded_buffer(compacted(dataset))
    batches = [buffer.sample(500, generator=torch.Generator().manual_seed(0)) for buffer in (regular, compact)]
    assert_same_batches(*batches)
    assert float(batches[0].valid.mean()) < 1


def test_next_observation_that_is_not_the_following_row_is_kept() -> None:
    dataset = toy_dataset(24)
    dataset["next_observations"][5] += 1
    with pytest.warns(UserWarning, match="1 of 3 trajectories end only because"):
        buffer = loaded_buffer(dataset, horizon_length=1)
    np.testing.assert_array_equal(buffer.batch_of(all_rows(buffer)).next_observations[0], dataset["next_observations"])


def test_batch_holds_chunks_or_first_actions() -> None:
    dataset = toy_dataset(20)
    chunks, firsts = loaded_buffer(dataset), loaded_buffer(dataset, action_chunking=False)
    rows = all_rows(chunks)
    actions = torch.from_numpy(dataset["actions"])
    assert torch.equal(chunks.batch_of(rows).actions[0, 4], actions[4:7].flatten())
    assert torch.equal(firsts.batch_of(rows).actions[0, 4], actions[4])
    assert torch.equal(firsts.batch_of(rows).rewards, chunks.batch_of(rows).rewards)


def test_actions_count_up_to_the_end_of_the_trajectory_that_a_chunk_begins_in() -> None:
    dataset = toy_dataset(12, length=4)  # two actions a step
    chunks, firsts = loaded_buffer(dataset), loaded_buffer(dataset, action_chunking=False)
    rows = torch.arange(2, 5).view(1, 3, 1) + torch.arange(3)
    assert chunks.batch_of(rows).action_valid[0].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1] * 6]
    assert firsts.batch_of(rows).action_valid.tolist() == [[[1, 1]] * 3]


def test_loading_leaves_the_dataset_alone() -> None:
    dataset = toy_dataset(30)
    before = {name: array.copy() for name, array in dataset.items()}
    loaded_buffer(dataset)
    for name, array in dataset.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "masks", "terminals"])
def test_missing_array_is_named(name: str) -> None:
    dataset = toy_dataset(20)
    buffer = empty_buffer(observations=4, actions=2)
    del dataset[name]
    with pytest.raises(ValueError, match=f"a dataset needs the arrays .*; missing: {name}"):
        buffer.load_dataset(dataset)


def test_dataset_without_next_observations_in_either_layout_is_refused() -> None:
    dataset = toy_dataset(20)
    del dataset["next_observations"]
    with pytest.raises(
        ValueError, match=re.escape("`next_observations` (regular layout) or `valids` (compact layout)")
    ):
        loaded_buffer(dataset)


@pytest.mark.parametrize(("name", "shape"), [("actions", (20, 3)), ("rewards", (19,)), ("observations", (20, 5))])
def test_array_of_the_wrong_shape_is_named_with_the_expected_one(name: str, shape: tuple[int, ...]) -> None:
    dataset = {**toy_dataset(20), name: np.zeros(shape, np.float32)}
    expected = {"actions": (20, 2), "rewards": (20,), "observations": (20, 4)}[name]
    message = re.escape(f"dataset array `{name}` must have shape {expected} with at least one row, got {shape}")
    with pytest.raises(ValueError, match=message):
        empty_buffer(observations=4, actions=2).load_dataset(dataset)


def test_compact_dataset_with_a_trajectory_that_has_no_end_is_refused() -> None:
    dataset = compacted(toy_dataset(24))
    with pytest.raises(ValueError, match="every trajectory ends with one row whose `valids` is 0"):
        loaded_buffer({name: array[:-1] for name, array in dataset.items()})


@pytest.mark.parametrize("compact", [False, True], ids=["regular", "compact"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "masks"])
def test_dataset_with_a_value_that_is_not_finite_is_refused_by_array_and_row(
    name: str, value: float, compact: bool
) -> None:
    dataset = toy_dataset(36)
    for row in (7, 20):
        dataset[name][row] = value
    if name == "observations":
        dataset["next_observations"][6] = value  # the same observation
    dataset = compacted(dataset) if compact else dataset
    with pytest.raises(ValueError, match=f"dataset array `{name}` must hold finite numbers, got {value} in row 7;"):
        loaded_buffer(dataset)


def test_number_beyond_single_precision_is_refused() -> None:
    dataset = {name: array.astype(np.float64) for name, array in toy_dataset(36).items()}
    dataset["rewards"][3] = 1e300
    with pytest.raises(ValueError, match=re.escape("`rewards` must hold finite numbers, got 1e+300 in row 3;")):
        loaded_buffer(dataset)


def test_refused_dataset_leaves_the_buffer_as_it_was() -> None:
    dataset = toy_dataset(36)
    buffer, untouched = loaded_buffer(dataset), loaded_buffer(dataset)
    rewards = np.full(60, np.nan, np.float32)
    with pytest.raises(ValueError, match="`rewards` must hold finite numbers"):
        buffer.load_dataset({**toy_dataset(60, seed=1), "rewards": rewards})
    assert buffer.dataset_size == 36
    batches = [each.sample(100, generator=torch.Generator().manual_seed(0)) for each in (buffer, untouched)]
    assert_same_batches(*batches)


def test_dataset_after_online_transitions_is_refused() -> None:
    buffer = empty_buffer()
    Recorder(buffer).add()
    with pytest.raises(ValueError, match="a dataset must be loaded before online transitions are added"):
        buffer.load_dataset(toy_dataset(20, 1, 1))


# -- online transitions -----------------------------------------------------------------------------------------------


def test_online_transitions_are_appended_to_the_dataset() -> None:
    dataset = toy_dataset(24, 1, 1)
    buffer = loaded_buffer(dataset, size=10)
    recorder = Recorder(buffer)
    before = len(found_sequences(buffer))
    for step in range(5):
        recorder.add({0: "truncated"} if step == 3 else None)
    assert buffer.count_starts() == before + 5
    online = [row for row in found_sequences(buffer) if row[0] in (0.0, 1.0, 2.0)]
    assert online == rounded([recorder.expected(0, start) for start in range(3)])


def test_sequences_from_the_dataset_stop_before_the_online_transitions() -> None:
    buffer = loaded_buffer(toy_dataset(24, 1, 1), size=10)
    recorder = Recorder(buffer)
    for _ in range(4):
        recorder.add()
    sequences = buffer.sequences(all_rows(buffer)[0])
    crossing = (sequences.rows[:, 0] < 24) & (sequences.rows[:, -1] >= 24)
    assert int(crossing.sum()) == 2
    assert not sequences.valid[crossing][:, -1].any()


def test_ring_that_wraps_keeps_the_latest_transitions_in_order() -> None:
    buffer = empty_buffer(size=8)
    recorder = Recorder(buffer)
    ends = {3: "truncated", 9: "terminated", 11: "truncated", 14: "terminated"}
    for step in range(21):
        recorder.add({0: ends[step]} if step in ends else None)
        kept = range(max(step - 7, 0), step - 1)  # starts of three-step sequences among the last eight transitions
        assert found_sequences(buffer) == rounded([recorder.expected(0, start) for start in kept]), step


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("offline", [0, 24])
def test_rings_of_several_environments_wrap_on_their_own(replicas: int, offline: int) -> None:
    buffer = empty_buffer(size=6, n_envs=4, replicas=replicas)
    if offline:
        buffer.load_dataset(toy_dataset(offline, 1, 1))
    dataset = found_sequences(buffer) if offline else []
    recorder, draw = Recorder(buffer), np.random.default_rng(0)
    for step in range(40):
        recorder.add({e: draw.choice(["truncated", "terminated"]) for e in range(4) if draw.random() < 0.3})
        if step < 2 or (step > 8 and step % 7):
            continue
        kept = range(max(step - 5, 0), step - 1)
        for replica in range(replicas):
            own = range(replica * 4 // replicas, (replica + 1) * 4 // replicas)
            online = rounded([recorder.expected(e, start) for e in own for start in kept])
            found = found_sequences(buffer, replica)
            # a sequence that runs from the dataset into the first ring is not valid; there are two such starts
            assert len(found) in (len(dataset) + len(online), len(dataset) + len(online) + 2)
            assert [row for row in found if row in online] == online
            assert all(row[-1] == 0 for row in found if row not in dataset and row not in online)


def test_episode_end_by_time_limit_keeps_the_bootstrap_and_ends_the_sequence() -> None:
    buffer = empty_buffer()
    recorder = Recorder(buffer)
    for step in range(8):
        recorder.add({2: {0: "truncated"}, 5: {0: "terminated"}}.get(step))
    assert buffer.dones[:8].tolist() == [False, False, True, False, False, True, False, False]
    assert buffer.timeouts[:8].tolist() == [False, False, True, False, False, False, False, False]
    batch = buffer.batch_of(torch.tensor([[[0, 1, 2], [1, 2, 3], [3, 4, 5], [4, 5, 6]]]))
    discount = pytest.approx(0.9**3)
    assert batch.discounts[0].tolist() == [discount, discount, 0, 0]
    assert batch.valid[0].tolist() == [1, 0, 1, 0]
    assert batch.next_observations[0, :, 0].tolist() == [2.5, 2.5, 5.5, 5.5]


def test_time_limit_stops_the_bootstrap_when_it_is_not_handled() -> None:
    buffer = empty_buffer(handle_timeout_termination=False)
    recorder = Recorder(buffer)
    for step in range(4):
        recorder.add({0: "truncated"} if step == 2 else None)
    assert buffer.batch_of(torch.tensor([[[0, 1, 2]]])).discounts.tolist() == [[0.0]]


def test_sparse_rewards_become_minus_one_where_they_are_not_zero() -> None:
    buffer = empty_buffer(sparse=True)
    recorder = Recorder(buffer)
    for reward in (-3.0, 0.0, -0.5):
        recorder.add(rewards=reward)
    assert buffer.rewards[:3].tolist() == [-1, 0, -1]


def test_positive_reward_is_refused_where_rewards_are_made_sparse() -> None:
    with pytest.raises(ValueError, match=re.escape("`sparse` expects rewards <= 0, got 0.5; switch `sparse` off")):
        Recorder(empty_buffer(sparse=True)).add(rewards=0.5)


def test_environments_that_do_not_divide_among_the_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of the number of seeds, got 4 environments for 3 seeds"):
        empty_buffer(n_envs=4, replicas=3)


# -- sampling ---------------------------------------------------------------------------------------------------------


def chi_square(counts: NDArray[np.int64]) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("added", [0, 5, 30])
def test_starts_are_uniform_over_dataset_and_rings(added: int) -> None:
    buffer = loaded_buffer(toy_dataset(40, 1, 1), size=10, n_envs=2)
    recorder = Recorder(buffer)
    for _ in range(added):
        recorder.add()
    starts = buffer.draw_rows((1, 40_000), torch.Generator().manual_seed(0))[0, :, 0]
    counts = np.bincount(starts.numpy())
    counts = counts[counts > 0]
    freedom = len(counts) - 1
    assert len(counts) == buffer.count_starts()
    assert abs(chi_square(counts) - freedom) < 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("horizon_length", [1, 3, 5])
@pytest.mark.parametrize("action_chunking", [False, True])
@pytest.mark.parametrize("replicas", [1, 2])
def test_batches_of_a_dataset_are_looked_up_as_they_would_be_followed(
    horizon_length: int, action_chunking: bool, replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STARTS_AT_ONCE", 16)
    settings = {"horizon_length": horizon_length, "action_chunking": action_chunking, "replicas": replicas}
    dataset = {**toy_dataset(40), "masks": np.arange(40) % 7 > 0}
    buffer = loaded_buffer(dataset, **settings)
    assert_looked_up_batches_are_followed_ones(buffer)
    assert_looked_up_batches_are_followed_ones(pickle.loads(pickle.dumps(buffer)))


def test_batches_after_the_first_online_transition_are_followed_again() -> None:
    buffer = loaded_buffer(toy_dataset(40, 1, 1))
    recorder = Recorder(buffer)
    recorder.add()
    drawn = buffer.sample(50, generator=torch.Generator().manual_seed(0))
    rows = buffer.draw_rows((1, 50), torch.Generator().manual_seed(0))
    assert int(rows.max()) == 40  # the online row
    assert_same_batches(drawn, buffer.batch_of(rows))


def test_drawing_from_a_dataset_is_few_operations() -> None:
    buffer = loaded_buffer(toy_dataset(40), horizon_length=5)
    with KernelCounter() as counter:
        buffer.sample(20)
    assert counter.found.total() <= 8


def test_replicas_draw_different_batches() -> None:
    rows = loaded_buffer(toy_dataset(40), replicas=2).draw_rows((2, 50), torch.Generator().manual_seed(0))
    assert not torch.equal(rows[0], rows[1])


def test_buffer_with_less_than_a_horizon_is_refused() -> None:
    buffer = empty_buffer()
    recorder = Recorder(buffer)
    for _ in range(2):
        recorder.add()
    assert buffer.count_starts() == 0
    with pytest.raises(ValueError, match="holds 2 transitions in a row, sampling needs at least `horizon_length` = 3"):
        buffer.sample(1)


def test_normalised_environment_normalises_observations_and_single_rewards() -> None:
    normaliser = VecNormalize(DummyVecEnv([lambda: SpacesEnv(4, 2)]))
    normaliser.obs_rms.mean[:], normaliser.obs_rms.var[:] = 1.0, 4.0
    normaliser.ret_rms.var = np.array(25.0)
    buffer = loaded_buffer(toy_dataset(40), gamma=0.5)
    rows = all_rows(buffer)[:, :3]
    plain, seen = buffer.batch_of(rows), buffer.batch_of(rows, normaliser)
    torch.testing.assert_close(seen.observations, (plain.observations - 1) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen.next_observations, (plain.next_observations - 1) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen.rewards, plain.rewards / 5, rtol=1e-4, atol=1e-4)


# -- storage ----------------------------------------------------------------------------------------------------------


def storage_bytes(buffer: SequenceReplayBuffer) -> int:
    return sum(value.nbytes for value in vars(buffer).values() if isinstance(value, Tensor))


def test_million_transitions_of_cube_double_take_under_350_megabytes() -> None:
    small, large = (empty_buffer(size, observations=37, actions=5) for size in (1_000, 11_000))
    per_transition = (storage_bytes(large) - storage_bytes(small)) / 10_000
    assert per_transition * 1_000_000 < 350e6
    assert per_transition >= 4 * (37 + 5 + 1)  # nothing is missing


def test_finished_episodes_do_not_grow_the_storage_forever() -> None:
    buffer = empty_buffer(size=8)
    recorder = Recorder(buffer)
    for _ in range(40):
        recorder.add({0: "terminated"})
    rows = len(buffer.observations)
    for _ in range(200):
        recorder.add({0: "terminated"})
    assert len(buffer.observations) == rows


def test_pickled_buffer_gives_the_same_samples_and_goes_on_growing() -> None:
    buffer = loaded_buffer(toy_dataset(24, 1, 1), size=6)
    recorder = Recorder(buffer)
    for step in range(9):
        recorder.add({0: "truncated"} if step % 4 == 3 else None)
    copy = pickle.loads(pickle.dumps(buffer))
    Recorder(copy).add()
    Recorder(buffer).add()
    assert_same_batches(*(b.sample(200, generator=torch.Generator().manual_seed(0)) for b in (buffer, copy)))


def test_buffer_has_the_attributes_that_stable_baselines_reads() -> None:
    buffer = empty_buffer(size=5, n_envs=2)
    recorder = Recorder(buffer)
    for _ in range(3):
        recorder.add()
    assert (buffer.pos, buffer.full, buffer.size(), buffer.n_envs, buffer.buffer_size) == (3, False, 3, 2, 5)
    for _ in range(3):
        recorder.add()
    assert (buffer.pos, buffer.full, buffer.size()) == (1, True, 5)
