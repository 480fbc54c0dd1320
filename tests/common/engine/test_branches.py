"""Losses on streams of their own, with a stand-in for streams that knows what each has waited for.

The stand-in keeps account as CUDA does: an operation may read what its own stream or one that it has waited for has
written, and the allocator gives a stream's freed memory to that stream again, whoever else has used it.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents.common.batch import Batch
from agents.common.engine import capture, fast_update
from agents.common.engine.branches import Branch, BranchedLosses, disjoint, find_branches
from agents.common.engine.fast_update import Mode
from agents.common.sb3.model import FlowQLearning
from tests.common.engine.test_capture import TapeRecorder, assert_same, made, made_plain

CPU = torch.device("cpu")


class Stream:
    """A stream that knows how far into every stream it may look."""

    numbers = itertools.count()

    def __init__(self, device: Any = None) -> None:
        self.number, self.time = next(self.numbers), 0
        self.seen: dict[int, int] = {}

    def wait_stream(self, other: Stream) -> None:
        for number, time in {**other.seen, other.number: other.time}.items():
            self.seen[number] = max(self.seen.get(number, 0), time)

    def may_follow(self, stamps: dict[int, int]) -> bool:
        return all(number == self.number or self.seen.get(number, -1) >= time for number, time in stamps.items())


class Watch(TorchDispatchMode):
    """Raises where an operation reads or overwrites what its stream has not waited for; counts those of each stream."""

    def __init__(self) -> None:
        super().__init__()
        self.current = self.first = Stream()
        # of memory -> stream -> when it was last read or written there
        self.reads: dict[int, dict[int, int]] = {}
        self.writes: dict[int, dict[int, int]] = {}
        self.owners: dict[int, Stream] = {}
        self.freed: list[tuple[Stream, dict[int, int]]] = []
        self.operations: dict[Stream, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        stream = self.current
        stream.time += 1
        self.operations[stream] = self.operations.get(stream, 0) + 1
        for owner, stamps in self.freed:
            if owner is stream and not stream.may_follow(stamps):
                raise RuntimeError("memory is given away while another stream uses it")
        read = memory_of((args, kwargs))
        mutated = [arg for arg, own in zip(args, func._schema.arguments, strict=False) if is_written(own)]
        for key, storage in {**read, **memory_of(result)}.items():
            self.use(key, storage, stream, key not in read or key in memory_of(mutated))
        return result

    def use(self, key: int, storage: Any, stream: Stream, is_written: bool) -> None:
        if key not in self.reads:
            self.reads[key], self.writes[key], self.owners[key] = {}, {}, stream
            weakref.finalize(storage, self.free, key)
        earlier = {**self.writes[key], **(self.reads[key] if is_written else {})}
        if not stream.may_follow(earlier):
            raise RuntimeError("a stream uses what it has not waited for")
        (self.writes if is_written else self.reads)[key][stream.number] = stream.time

    def free(self, key: int) -> None:
        self.freed.append((self.owners.pop(key), {**self.writes.pop(key), **self.reads.pop(key)}))

    @contextlib.contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before


def memory_of(values: Any) -> dict[int, Any]:
    storages = [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor)]
    return {storage._cdata: storage for storage in storages}


def is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    found = Watch()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", found.on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: found.current)
    return found


def draws(model: FlowQLearning) -> tuple[Batch, dict[str, Tensor]]:
    return model.draw_batch(16), model.draw_noise(16)


def branches(model: FlowQLearning) -> list[Branch]:
    return find_branches(model, model._update.parameters, *draws(model))


def branched(model: FlowQLearning) -> BranchedLosses:
    return BranchedLosses(branches(model), len(model._update.parameters), CPU)


# -- which losses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        ({"td": {0, 1}, "bc": {2}}, [["td"], ["bc"]]),
        ({"td": {0}, "bc": {1}, "q": {0, 1}}, [["td", "bc", "q"]]),
        ({"td": {0}, "bc": {1}, "q": {1}, "gap": {0}}, [["bc", "q"], ["td", "gap"]]),
        ({"td": {0}, "nothing": set(), "bc": {1}}, [["td", "nothing"], ["bc"]]),
        ({"nothing": set()}, [["nothing"]]),
    ],
)
def test_losses_that_train_the_same_parameter_stay_together(
    trained: dict[str, set[int]], expected: list[list[str]]
) -> None:
    assert disjoint({name: frozenset(own) for name, own in trained.items()}) == expected


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("qam", [{"td"}, {"bc_flow"}, {"am"}]),
        ("sqam", [{"td", "gap"}, {"bc_flow"}, {"am"}]),
        ("bc", [{"bc_flow"}]),
    ],
)
def test_branches_follow_from_what_the_losses_train(id: str, expected: list[set[str]]) -> None:
    model = made(id)
    found = branches(model)
    assert sorted(map(sorted, (set(branch.losses) for branch in found))) == sorted(map(sorted, expected))
    parameters = model._update.parameters
    assert sorted(i for branch in found for i in branch.trained) == list(range(len(parameters)))


def test_a_diagnostic_is_computed_beside_the_loss_that_shares_its_operations() -> None:
    homes = {name: branch.losses for branch in branches(made("qam")) for name in branch.diagnostics}
    assert homes["q_mean"] == ("td",)
    assert homes["adjoint_mean"] == ("am",)


def test_looking_for_branches_changes_neither_networks_nor_generators() -> None:
    model, other = made("qam"), made("qam")
    branches(model)
    branches_of_other = draws(other)
    del branches_of_other
    for each in (model, other):
        each.sample_and_update(16)
    assert_same(model, other)


# -- on streams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["qam", "sqam", "fql"])
@pytest.mark.parametrize("as_cuda", [False, True])
def test_branches_have_the_gradients_and_diagnostics_of_all_losses_together(
    id: str, as_cuda: bool, watch: Watch, request: pytest.FixtureRequest
) -> None:
    if as_cuda:
        request.getfixturevalue("as_on_cuda")
    model = made(id)
    batch, noise = draws(model)
    info, grads = branched(model)(batch, noise, model._update.parameters)
    expected_info, expected = model._update.differentiate(batch, noise)
    assert info.keys() == expected_info.keys()
    torch.testing.assert_close(info, dict(expected_info), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(list(grads), list(expected), rtol=1e-4, atol=1e-6)


def take_updates(model: FlowQLearning, losses: BranchedLosses, count: int = 3) -> None:
    for _ in range(count):
        batch, noise = draws(model)
        info, grads = losses(batch, noise, model._update.parameters)
        model._update.apply([grad for grad in grads if grad is not None], info)


def test_every_branch_runs_on_its_stream_and_is_joined_before_the_step(watch: Watch) -> None:
    model = made("qam")
    losses = branched(model)
    with watch:
        take_updates(model, losses)
    assert len(watch.operations) == 3
    assert all(count > 100 for count in watch.operations.values())


@pytest.mark.parametrize("missing", ["fork", "join"])
def test_the_stand_in_notices_a_wait_that_is_missing(
    missing: str, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made("qam")
    losses, wait = branched(model), Stream.wait_stream

    def wait_sometimes(self: Stream, other: Stream) -> None:
        if (other is watch.first) == (missing == "join"):
            wait(self, other)

    monkeypatch.setattr(Stream, "wait_stream", wait_sometimes)
    with watch, pytest.raises(RuntimeError, match=r"not waited for|given away"):
        take_updates(model, losses)


def test_the_stand_in_notices_memory_that_is_given_away_too_early(watch: Watch) -> None:
    side = Stream()
    with watch:
        with watch.on(side):
            made_aside = torch.zeros(3)
        watch.first.wait_stream(side)
        made_aside += 1
        del made_aside
        with watch.on(side), pytest.raises(RuntimeError, match="given away"):
            torch.zeros(3)


# -- in an update -----------------------------------------------------------------------------------------------------


@pytest.fixture
def in_branches(monkeypatch: pytest.MonkeyPatch, watch: Watch) -> Callable[..., FlowQLearning]:
    """Return a function that makes a model whose compiled updates are captured, with branches."""
    recorder = TapeRecorder()
    monkeypatch.setattr(capture, "record", recorder)
    monkeypatch.setattr(capture, "run_aside", lambda step, device: step())
    monkeypatch.setattr(capture, "_failures", [])
    monkeypatch.setattr(fast_update, "choose_mode", lambda *arguments: Mode(True, True, "test"))
    monkeypatch.setattr(fast_update, "_compiled", lambda evaluate: evaluate)  # the recorder sees plain operations only
    monkeypatch.setattr(fast_update.FastUpdate, "in_branches", True)

    def make(id: str = "qam", **settings: Any) -> FlowQLearning:
        recorder.model = made(id, **settings)
        return recorder.model

    return make


@pytest.mark.slow
def test_branches_are_compiled_whole_and_without_what_they_do_not_need(watch: Watch) -> None:
    sizes: list[int] = []

    def compiled(evaluate: Any) -> Any:
        def note(graph: Any, inputs: Any) -> Any:
            sizes.append(len(graph.graph.nodes))
            return make_boxed_func(graph)

        return torch.compile(evaluate, backend=aot_autograd(fw_compiler=note, bw_compiler=note), fullgraph=True)

    model = made("qam", flow_steps=3)
    batch, noise = draws(model)
    parts = branches(model)
    losses = BranchedLosses(
        parts, len(model._update.parameters), CPU, [compiled(part.compute_losses) for part in parts]
    )
    _, grads = losses(batch, noise, model._update.parameters)
    _, expected = model._update.differentiate(batch, noise)
    torch.testing.assert_close(list(grads), list(expected), rtol=1e-4, atol=1e-6)
    of_branches, sizes[:] = sum(sizes), []
    total, _ = compiled(model.compute_losses)(batch, noise)
    total.sum().backward()
    assert of_branches < 1.25 * sum(sizes)  # each takes the parameters and the batch


@pytest.mark.parametrize("id", ["qam", "sqam"])
def test_recorded_branches_take_the_updates_that_would_have_been_taken(id: str, in_branches: Any) -> None:
    model, plain = in_branches(id), made_plain(id)
    for _ in range(6):
        model.sample_and_update(16)
        plain.sample_and_update(16)
    assert_same(model, plain)
    (losses,) = model._update._branched.values()
    assert losses is not None
    assert len(losses.branches) == 3
    assert model.update_mode.compiled
    assert model.update_mode.captured


def test_an_algorithm_with_one_branch_has_none(in_branches: Any) -> None:
    model = in_branches("bc")
    assert model._update._branches(*draws(model)) is None


def test_nothing_branches_unless_it_is_wanted_and_captured(in_branches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = in_branches("qam")
    update, drawn = model._update, draws(model)
    assert update._branches(*drawn) is not None
    update._set_mode(Mode(True, False, "test"))
    assert update._branches(*drawn) is None
    update._set_mode(Mode(True, True, "test"))
    update.in_branches = False
    assert update._branches(*drawn) is None


def test_branches_are_off_by_default() -> None:
    assert not fast_update.FastUpdate.in_branches
