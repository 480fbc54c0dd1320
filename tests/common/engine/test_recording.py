"""Recording on CUDA, with a stand-in that keeps account of devices, streams, pools and generators as CUDA does.

Where a recording fails, the stand-in does what PyTorch 2.13 does: ending the recording raises an error of its own, the
recording's stream stays current, the allocator goes on filling its pool, and generators take themselves for recorded.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from agents.common.engine import capture, fast_update
from agents.common.engine.capture import CapturedStep, CaptureError, record, run_aside
from agents.common.engine.fast_update import Mode
from tests.common.engine.test_capture import assert_same, made, state_of

SECOND = torch.device("cuda", 1)


class Stream:
    def __init__(self, device: torch.device | None = None) -> None:
        self.device_index = Cuda.now.device if device is None else device.index or 0
        self.waited_for: list[Stream] = []

    def wait_stream(self, other: Stream) -> None:
        self.waited_for.append(other)


class Generator:
    """A generator whose state may be taken for recorded."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.state: dict[str, Any] = {"offset": 0, "recorded": False}

    def get_state(self) -> int:
        return int(self.state["offset"])

    def set_state(self, offset: int) -> None:
        if self.state["recorded"]:
            raise RuntimeError("cannot set the state of a generator during capture")
        self.state["offset"] = offset

    def graphsafe_get_state(self) -> dict[str, Any]:
        return self.state

    def graphsafe_set_state(self, state: dict[str, Any]) -> None:
        self.state = state

    def draw(self) -> None:
        if self.state["recorded"] and Cuda.now.recording is None:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
        self.state["offset"] += 1


class Graph:
    def __init__(self) -> None:
        self.generators = [Cuda.now.defaults[Cuda.now.device]]
        self.replays = 0

    def register_generator_state(self, generator: Generator) -> None:
        self.generators.append(generator)

    def replay(self) -> None:
        self.replays += 1


class Recording:
    """``torch.cuda.graph``."""

    def __init__(
        self, graph: Graph, pool: Any = None, stream: Stream | None = None, capture_error_mode: str = ""
    ) -> None:
        self.graph, self.pool = graph, pool
        self.stream = stream or Stream(torch.device("cuda", 0))  # PyTorch's own is of the first device that was used
        Cuda.now.error_mode = capture_error_mode

    def __enter__(self) -> None:
        self.before = Cuda.now.stream
        Cuda.now.stream, Cuda.now.recording, Cuda.now.broken = self.stream, self, False
        Cuda.now.pools.append(self.pool)
        Cuda.now.held.append(self.pool)
        for generator in self.graph.generators:
            generator.state["recorded"] = True

    def __exit__(self, *error: object) -> None:
        Cuda.now.recording = None
        if Cuda.now.broken:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        Cuda.now.pools.remove(self.pool)
        for generator in self.graph.generators:
            generator.state["recorded"] = False
        Cuda.now.stream = self.before


class Cuda:
    """The state of the stand-in."""

    now: Cuda

    def __init__(self) -> None:
        Cuda.now = self
        self.device = 0
        self.defaults = [Generator(torch.device("cuda", k)) for k in (0, 1)]
        self.first = [Stream(torch.device("cuda", k)) for k in (0, 1)]
        self.current = list(self.first)
        self.recording: Recording | None = None
        self.broken = False
        self.pools: list[Any] = []  # that the allocator takes memory from
        self.held: list[Any] = []  # that keep their memory
        self.error_mode = ""

    @property
    def stream(self) -> Stream:
        return self.current[self.device]

    @stream.setter
    def stream(self, stream: Stream) -> None:
        self.device = stream.device_index
        self.current[self.device] = stream

    @contextlib.contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        before, self.device = self.device, device.index or 0
        try:
            yield
        finally:
            self.device = before

    @contextlib.contextmanager
    def streaming(self, stream: Stream) -> Iterator[None]:
        before = self.device, self.current[stream.device_index]
        self.stream = stream
        try:
            yield
        finally:
            self.stream = before[1]
            self.device = before[0]

    def wait(self) -> None:
        """Do what is not allowed while recording."""
        if self.recording is not None:
            self.broken = True
            raise RuntimeError("operation not permitted when stream is capturing")

    def end_allocation(self, index: int, pool: Any) -> None:
        if pool not in self.pools:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.pools.remove(pool)

    def release(self, index: int, pool: Any) -> None:
        self.held.remove(pool)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    found = Cuda()
    names = {
        "CUDAGraph": Graph, "graph": Recording, "Stream": Stream, "device": found.on, "stream": found.streaming,
        "current_stream": lambda device: found.current[device.index or 0], "graph_pool_handle": lambda: object(),
        "set_stream": lambda stream: setattr(found, "stream", stream), "default_generators": found.defaults,
    }  # fmt: skip
    for name, value in names.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", found.end_allocation, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", found.release, raising=False)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(capture, "_failures", [])
    return found


def step_of(cuda: Cuda, generator: Generator, waits: bool = False, seen: list[Any] | None = None) -> Any:
    def step() -> dict[str, Any]:
        if seen is not None:
            seen.append((cuda.device, cuda.stream.device_index, gc.isenabled()))
        generator.draw()
        if waits:
            cuda.wait()
        return {}

    return step


def test_everything_happens_on_the_models_device(cuda: Cuda) -> None:
    generator, seen = Generator(SECOND), list[Any]()
    step = CapturedStep(step_of(cuda, generator, seen=seen), SECOND, [generator])  # type: ignore[list-item]
    for _ in range(capture.WARM_UP + 2):
        step()
    assert [place[:2] for place in seen] == [(1, 1)] * (capture.WARM_UP + 1)
    assert cuda.device == 0
    assert cuda.current == cuda.first


def test_other_threads_may_go_on_and_garbage_is_collected_before_and_not_inside(cuda: Cuda) -> None:
    class Cycle:
        pass

    garbage = Cycle()
    garbage.own = garbage  # type: ignore[attr-defined]
    reference, generator, seen = weakref.ref(garbage), Generator(SECOND), list[Any]()
    del garbage

    def step() -> dict[str, Any]:
        seen.append((reference() is None, gc.isenabled()))
        return {}

    record(step, SECOND, [generator])  # type: ignore[list-item]
    assert seen == [(True, False)]
    assert gc.isenabled()
    assert cuda.error_mode == "thread_local"


def test_a_recording_that_fails_leaves_everything_as_it_was_and_names_its_cause(cuda: Cuda) -> None:
    generator = Generator(SECOND)
    generator.state["offset"] = 5
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing") as error:
        record(step_of(cuda, generator, waits=True), SECOND, [generator])  # type: ignore[list-item]
    assert "previous error" not in str(error.value)
    assert isinstance(error.value.__cause__, RuntimeError)
    assert (cuda.device, cuda.current, cuda.pools, cuda.held) == (0, cuda.first, [], [])
    assert generator.get_state() == 5
    for each in (generator, *cuda.defaults):
        each.draw()  # raises as long as it takes itself for recorded


def test_ctrl_c_in_the_middle_of_a_recording_is_ctrl_c(cuda: Cuda) -> None:
    def step() -> dict[str, Any]:
        cuda.broken = True
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(step, SECOND, [])
    assert cuda.pools == []


def test_a_failure_is_remembered_for_the_process(cuda: Cuda) -> None:
    generator = Generator(SECOND)
    step = CapturedStep(step_of(cuda, generator, waits=True), SECOND, [generator])  # type: ignore[list-item]
    for _ in range(capture.WARM_UP):
        step()
    with pytest.raises(CaptureError, match="not permitted"):
        step()
    assert capture.earlier_failure() == "operation not permitted when stream is capturing"


def test_a_warm_up_waits_for_what_was_under_way_and_is_waited_for(cuda: Cuda) -> None:
    streams: list[Any] = []
    run_aside(lambda: streams.append(cuda.stream) or {}, torch.device("cuda", 0))  # type: ignore[func-returns-value]
    assert streams[0].waited_for == [cuda.first[0]]
    assert cuda.first[0].waited_for == streams


# -- updates ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let updates be captured by a recording that fails after it has run the step's Python."""

    def fail(step: Any, device: torch.device, generators: Any) -> Any:
        states = [generator.get_state() for generator in generators]
        step()
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        raise RuntimeError("operation not permitted")

    monkeypatch.setattr(capture, "record", fail)
    monkeypatch.setattr(capture, "run_aside", lambda step, device: step())
    monkeypatch.setattr(capture, "_failures", [])
    monkeypatch.setattr(fast_update, "choose_mode", lambda *arguments: Mode(False, True, "test"))


def test_after_a_failure_no_model_of_the_process_is_recorded(refusing: None) -> None:
    first = made()
    for _ in range(capture.WARM_UP):
        first.sample_and_update(16)
    with pytest.warns(UserWarning, match="not captured: operation not permitted"):
        first.sample_and_update(16)
    second = made()
    second._update.prepare()
    assert not second.update_mode.captured
    assert second.update_mode.reason == "an earlier recording failed: operation not permitted"


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, Any]]:
    """Let updates be recorded by running them; return what the optimiser was told in each of them."""
    told: list[tuple[bool, Any]] = []

    def run(step: Any, device: torch.device, generators: Any) -> Any:
        info = step()
        return (lambda: None), info

    monkeypatch.setattr(capture, "record", run)
    monkeypatch.setattr(capture, "run_aside", lambda step, device: step())
    monkeypatch.setattr(capture, "_failures", [])
    monkeypatch.setattr(fast_update, "choose_mode", lambda *arguments: Mode(False, True, "test"))
    return told


def test_the_optimiser_is_capturable_only_while_it_is_recorded(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    group = model.policy.optimizer.param_groups[0]
    differentiate = model._update.differentiate

    def noting(*arguments: Any) -> Any:
        watched.append((group["capturable"], type(group["lr"])))
        return differentiate(*arguments)

    monkeypatch.setattr(model._update, "differentiate", noting)
    for _ in range(capture.WARM_UP + 3):
        model.sample_and_update(16)
    assert watched == [(False, float)] * capture.WARM_UP + [(True, torch.Tensor)]
    assert (group["capturable"], type(group["lr"])) == (False, float)


def test_a_new_generator_is_recorded_anew(watched: Any) -> None:
    model = made()
    for _ in range(capture.WARM_UP + 2):
        model.sample_and_update(16)
    assert len(model._update._captured) == 1
    model.set_random_seed(123)
    model.sample_and_update(16)
    assert len(model._update._captured) == 2


def test_an_error_while_recording_is_not_the_compilers(monkeypatch: pytest.MonkeyPatch, refusing: None) -> None:
    recording: list[bool] = []

    def compile_(function: Any, **settings: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if recording:
                raise RuntimeError("operation not permitted when stream is capturing")
            return function(*arguments)

        return call

    def record_(step: Any, device: torch.device, generators: Any) -> Any:
        states = [generator.get_state() for generator in model.generators().values()]
        recording.append(True)
        try:
            step()
        finally:
            recording.clear()
            for generator, state in zip(model.generators().values(), states, strict=True):
                generator.set_state(state)

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(capture, "record", record_)
    monkeypatch.setattr(fast_update, "choose_mode", lambda *arguments: Mode(True, True, "test"))
    model = made()
    for _ in range(capture.WARM_UP):
        model.sample_and_update(16)
    with pytest.warns(UserWarning, match="not captured: operation not permitted"):
        model.sample_and_update(16)
    model.sample_and_update(16)
    assert model.update_mode.compiled
    monkeypatch.setattr(fast_update, "choose_mode", lambda *arguments: Mode(False, False, "test"))
    monkeypatch.setattr(capture, "_failures", [])
    plain = made()
    for _ in range(capture.WARM_UP + 2):
        plain.sample_and_update(16)
    assert_same(model, plain)


# -- on a device ------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_on_cuda_a_recording_that_fails_leaves_a_working_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_failures", [])
    model, plain = (made(device="cuda", compile=wish) for wish in ("auto", "off"))
    draw = model.draw_noise

    def wait(size: int) -> Any:
        noise = draw(size)
        if torch.cuda.is_current_stream_capturing():
            noise["bc_t"].sum().item()
        return noise

    monkeypatch.setattr(model, "draw_noise", wait)
    for _ in range(capture.WARM_UP):
        model.sample_and_update(16)
    with pytest.warns(UserWarning, match="updates are not captured"):
        model.sample_and_update(16)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.rand(1, device="cuda")
    for _ in range(capture.WARM_UP + 1):
        plain.sample_and_update(16)
    torch.testing.assert_close(state_of(model), state_of(plain), rtol=0, atol=0)


@pytest.mark.gpu
def test_on_cuda_where_a_recording_begins_changes_no_bit() -> None:
    models = [made(device="cuda", compile="auto") for _ in range(2)]
    for update in range(12):
        if update in (6, 8):
            models[0]._update.prepare()
        for model in models:
            model.policy.optimizer.param_groups[0]["lr"] = 1e-3 / 3
            model.sample_and_update(16)
    assert all(model.update_mode.captured for model in models)
    torch.testing.assert_close(*map(state_of, models), rtol=0, atol=0)
