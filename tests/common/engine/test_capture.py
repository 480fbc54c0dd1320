"""Updates captured once and replayed, with a recorder of operations instead of a CUDA graph; and compiled updates.

Like a graph, the recorder repeats the same operations on the same memory, whatever the Python code would do now.
Numbers, branches, and the choice of tensors from outside the update are fixed by the capture.
"""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd

from agents.common.engine import execution
from agents.common.engine.execution import WARMUP_STEPS, Mode, choose_mode
from tests.common.engine.helpers import assert_alike, loaded_model, plain_model, update
from tests.common.toys import warns


def assert_falls_back(model, plain, warning):
    """Check that a model warns once why it continues without capture, and that its updates equal a plain model's."""
    with warns(warning):
        update(model)
    update(model)
    update(plain, 2)
    assert_alike(model, plain)


def test_pretraining_and_what_follows_are_captured_apart(captured):
    models = [make("trqam", pretraining_steps=6) for make in (captured, plain_model)]
    for model in models:
        infos = [set(update(model)) for _ in range(12)]
        assert ["td_loss" in info for info in infos] == [False] * 6 + [True] * 6
    _, second = models[0].trainer.graphs.updates.values()
    # the method adds it after each update
    assert "multiplier" not in second.info
    assert_alike(*models)


def test_generators_are_captured_apart_and_dropped(captured):
    model = captured()
    # ids of deleted generators are used again
    for seed in range(execution.MAX_GRAPHS):
        model.trainer.seed([seed])
        update(model)
    assert len(model.trainer.graphs.updates) == execution.MAX_GRAPHS
    model.set_parameters(model.get_parameters())
    update(model)
    assert len(model.trainer.graphs.updates) == 1


def test_updates_of_more_kinds_than_graphs_are_plain_ones(captured):
    model, plain = captured(), plain_model()
    for size in [8, 9, 10, 11, 12, 13] * 6:
        update(model, size=size)
        update(plain, size=size)
    assert len(model.trainer.graphs.updates) == execution.MAX_GRAPHS
    assert_alike(model, plain)


def test_a_step_that_cannot_be_captured_is_taken_plainly(captured, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("operation not permitted when stream is capturing\n  Why: a copy\nmore")

    model, plain = captured(), plain_model()
    reason = "operation not permitted when stream is capturing Why: a copy"
    monkeypatch.setattr(execution, "capture", fail)
    update(model, WARMUP_STEPS)
    update(plain, WARMUP_STEPS)
    assert_falls_back(model, plain, f"not captured: {reason}; training continues")
    assert model.trainer.mode == Mode(False, False, f"not captured: {reason}")
    assert captured().trainer.mode.captured


def test_only_a_fused_adam_is_captured(captured):
    with warns("SGD is not fused Adam"):
        model = captured(policy_kwargs={"optimizer_class": torch.optim.SGD})
    assert not model.trainer.mode.captured


# -- compiling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "device", "planned", "is_large", "expected"),
    [
        ("auto", "cpu", 4_999, False, "eager"),
        ("auto", "cpu", 5_000, False, "compiled"),
        ("auto", "cpu", 999, True, "eager"),
        ("auto", "cpu", 1_000, True, "compiled"),
        ("auto", "cuda", 49_999, True, "captured"),
        ("auto", "cuda", 50_000, False, "compiled and captured"),
        ("on", "cpu", 0, False, "compiled"),
        ("off", "cuda", 50_000, True, "eager"),
    ],
)
def test_device_size_and_planned_updates_decide(case, device, planned, is_large, expected):
    settings = SimpleNamespace(compile=case)
    mode = choose_mode(settings, torch.device(device), planned, is_large)
    assert str(mode) == f"{expected} ({mode.reason})"


def test_long_training_is_compiled_from_its_first_update_on(compile_with, monkeypatch, capsys):
    graphs = compile_with()
    monkeypatch.setitem(execution.COMPILED_UPDATES, "cpu", 5)
    resumed, short = (loaded_model("bc", compile="auto", verbose=1) for _ in range(2))
    resumed.learn_offline(5, lambda values, _: resumed._n_updates < 2)
    resumed.learn_offline(3)
    short.learn_offline(4)
    assert resumed.trainer.mode.compiled
    assert len(graphs) == 1
    assert not short.trainer.mode.compiled
    assert capsys.readouterr().out.count("updates: compiled") == 2
    short.method.compile = "on"  # takes effect at once, like all settings
    update(short)
    assert short.trainer.mode.compiled


@pytest.fixture
def compile_with(monkeypatch):
    """Return a function that lets another backend compile models, and returns the default backend's graphs."""
    real, graphs = torch.compile, []

    def let(backend=lambda graph, inputs: graphs.append(graph) or graph.forward):
        def compile(function, **settings):
            return real(function, backend=backend, **settings | {"options": None})

        monkeypatch.setattr(torch, "compile", compile)
        return graphs

    yield let
    torch._dynamo.reset()


def test_layer_norm_in_a_forward_derivative_is_compiled(compile_with):
    compile_with()
    model = loaded_model("meanflowql", compile="on", actor_layer_norm=True)
    update(model)
    assert model.trainer.mode.compiled


def broken(graph, inputs):
    raise OSError("C++ compile error\n\nx.cpp:1:10: fatal error: no Python.h\n    1 | #include")


@pytest.mark.parametrize(
    "backend",
    [broken, aot_autograd(fw_compiler=lambda graph, inputs: graph.forward, bw_compiler=broken)],
    ids=["forwards", "backwards"],
)
def test_a_failing_compiler_is_named_and_the_updates_go_on(backend, compile_with):
    compile_with(backend)
    model, plain = loaded_model("bc", compile="on"), loaded_model("bc")
    assert_falls_back(
        model, plain, "updates are not compiled: .* fatal error: no Python.h; training continues"
    )
    assert not model.trainer.mode.compiled


def test_a_stop_of_all_processes_leaves_the_compiler_alone(compile_with):
    def stop_itself(graph, inputs):
        code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
        subprocess.run([sys.executable, "-c", code], check=True)
        return graph.forward

    compile_with(stop_itself)
    model = loaded_model("bc", compile="on")
    update(model)
    assert model.trainer.mode.compiled


def test_small_networks_take_one_thread_unless_user_has_chosen(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(execution, "DEFAULT_THREADS", 4)
    monkeypatch.setattr(execution, "OWN_THREADS", {1, 4})
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for width in (128, 512, 1024):
        model = loaded_model("bc", net_arch=[width, width], batch_size=256, compile="auto")
        model.trainer.prepare()
    assert threads == [1, 2, 4]
    assert "fewer than 1,000 updates" in model.trainer.mode.reason
    monkeypatch.setattr(execution, "OWN_THREADS", {4})
    loaded_model("bc").trainer.prepare()
    assert len(threads) == 3


def test_every_model_of_a_process_is_compiled(compile_with):
    graphs = compile_with()
    # eight is the number of recompilations after which the compiler silently stops compiling a function
    for count in range(1, 11):
        model = loaded_model("bc", compile="on", net_arch=[count])
        update(model)
        assert model.trainer.mode.compiled
        assert len(graphs) == count
    model.trainer.prepare()  # as another phase of the same model does
    update(model)
    assert len(graphs) == 10
