"""Updates recorded once and replayed, with a recorder of operations in place of a CUDA graph.

Like a graph, the recorder runs the same operations on the same memory again, whatever Python would do by now: numbers,
branches and tensors made outside are those of the recording.
"""

from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd

from agents.common.engine import execution, trainer
from agents.common.engine.execution import Mode, choose_mode
from tests.common.engine.helpers import assert_same, made, made_plain
from tests.common.toys import assert_same as assert_equal
from tests.common.toys import parameters_of, step, toy_batch, toy_dataset, toy_noise

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def assert_falls_back(model, plain, warning):
    """Check that a model says why it goes on plainly, once, and that its updates are those of a plain one."""
    with pytest.warns(UserWarning, match=warning):
        model.trainer.update(16)
    model.trainer.update(16)
    for _ in range(2):
        plain.trainer.update(16)
    assert_same(model, plain)


def test_where_a_recording_begins_changes_no_bit(captured):
    outcomes = []
    for beginnings in ((0,), (0, 6, 8)):  # as when a run is stopped after 6 and after 8 updates
        model = captured(learning_rate=1e-3 / 3)
        for update in range(12):
            if update in beginnings:
                model.trainer.prepare()
            model.trainer.update(16)
        outcomes.append(parameters_of(model))
    assert_equal(*outcomes)


def test_pretraining_and_what_follows_are_recorded_apart(captured):
    replayed, plain = (
        captured("trqam", pretraining_steps=6),
        made_plain("trqam", pretraining_steps=6),
    )
    for trained in (replayed, plain):
        infos = [set(trained.trainer.update(16)) for _ in range(12)]
        assert [("td_loss" in info) for info in infos] == [False] * 6 + [True] * 6
    assert len(replayed.trainer.graphs.updates) == 2
    assert_same(replayed, plain)


def test_online_batches_are_drawn_outside_and_handed_in(captured):
    model, plain = captured(learning_starts=4), made_plain(learning_starts=4)
    for trained in (model, plain):
        trained.learn(30)
    assert model._n_updates == plain._n_updates > execution.WARMUP_STEPS
    assert_same(model, plain)


def test_a_new_generator_is_recorded_anew_and_recordings_are_dropped_when_parameters_are_loaded(
    captured,
):
    model, counts = captured(), []
    for _ in range(execution.WARMUP_STEPS + 2):
        model.trainer.update(16)
    counts.append(len(model.trainer.graphs.updates))
    model.set_random_seed(123)
    model.trainer.update(16)
    counts.append(len(model.trainer.graphs.updates))
    model.set_parameters(model.get_parameters())
    assert [*counts, len(model.trainer.graphs.updates)] == [1, 2, 0]


def test_every_generator_is_captured_by_itself_although_the_ids_of_generators_come_again(captured):
    model = captured()
    for seed in range(execution.MAX_GRAPHS):
        model.trainer.seed([seed])
        model.trainer.update(16)
    assert len(model.trainer.graphs.updates) == execution.MAX_GRAPHS


def test_of_more_kinds_of_updates_than_graphs_some_are_replayed_and_the_others_named_once(
    captured, monkeypatch
):
    monkeypatch.setattr(execution, "IDLE_UPDATES", 10)
    model, plain = captured(), made_plain()
    sizes = [8, 9, 10, 11, 12, 13]

    def update(trained):
        for size in sizes * 6:
            trained.trainer.update(size)

    update(plain)
    with pytest.warns(UserWarning, match="10 updates were not captured.* than 4 kinds") as warned:
        update(model)
    assert len(warned) == 1
    updates = model.trainer.graphs.updates
    assert {key[0]: update.replay is not None for key, update in updates.items()} == dict.fromkeys(
        sizes[:4], True
    )
    assert_same(model, plain)


def test_a_setting_that_changes_at_each_update_is_said_to_prevent_capture(captured, monkeypatch):
    monkeypatch.setattr(execution, "IDLE_UPDATES", 10)
    model = captured("bc")

    def update_with_changes():
        for update in range(40):
            model.tau = 0.01 + update / 100
            model.trainer.update(16)

    with pytest.warns(UserWarning, match="10 updates were not captured") as warned:
        update_with_changes()
    assert len(warned) == 1
    for _ in range(20):  # unused graphs make room
        model.trainer.update(16)
    assert any(update.replay for update in model.trainer.graphs.updates.values())


def test_a_step_that_cannot_be_captured_is_taken_plainly_the_reason_is_said_and_other_models_are_captured(
    captured, monkeypatch
):
    def fail(*arguments):
        raise RuntimeError("operation not permitted when stream is capturing\n  Why: a copy\nmore")

    model, plain, reason = (
        captured(),
        made_plain(),
        "operation not permitted when stream is capturing Why: a copy",
    )
    monkeypatch.setattr(execution, "capture", fail)
    for trained in (model, plain):
        for _ in range(execution.WARMUP_STEPS):
            trained.trainer.update(16)
    assert_falls_back(model, plain, f"not captured: {reason}; cont")
    assert not model.trainer.mode.captured
    model.trainer.prepare()
    assert model.trainer.mode == Mode(False, False, f"capturing failed before: {reason}")
    assert captured().trainer.mode.captured


def test_only_a_fused_adam_is_recorded(captured):
    with pytest.warns(UserWarning, match="SGD is not fused Adam"):
        model = captured(policy_kwargs={"optimizer_class": torch.optim.SGD})
    assert not model.trainer.mode.captured


# -- how it is decided ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "device", "updates", "by_onednn", "compiled", "captured"),
    [
        ("auto", CPU, 4_999, False, False, False),
        ("auto", CPU, 5_000, False, True, False),
        ("auto", CPU, 5_000, True, False, False),
        ("auto bf16", CPU, 5_000, True, True, False),
        ("auto", CUDA, 4_999, False, False, True),
        ("auto", CUDA, 5_000, True, True, True),
        ("auto", torch.device("mps"), 5_000, False, False, False),
        ("on", CPU, 0, True, True, False),
        ("on", CUDA, 0, False, True, True),
        ("off", CUDA, 5_000, False, False, False),
    ],
)
def test_device_and_number_of_updates_decide(
    wish, device, updates, by_onednn, compiled, captured, monkeypatch
):
    monkeypatch.setattr(execution.onednn, "is_faster", lambda: by_onednn)
    wish, _, precision = wish.partition(" ")
    mode = choose_mode(SimpleNamespace(compile=wish, precision=precision), device, updates)
    assert mode.compiled == compiled
    assert mode.captured == captured
    assert mode.reason


@pytest.fixture
def compiled_from_the_fourth(monkeypatch):
    """Let a model be compiled after three updates; return where it is noted what was compiled and called."""
    calls = []

    def compile_(function, **settings):
        calls.append("compiled")

        def call(*arguments):
            calls.append("called")
            return function(*arguments)

        return call

    for module in (execution, trainer):
        monkeypatch.setattr(module, "COMPILE_AFTER_UPDATES", 3)
    monkeypatch.setattr(execution.onednn, "is_faster", lambda: False)
    monkeypatch.setattr(torch, "compile", compile_)
    return calls


@pytest.mark.parametrize("entry", ["learn", "update"])
def test_a_model_is_compiled_when_it_has_taken_enough_updates(
    entry, compiled_from_the_fourth, capsys
):
    model, plain = made(compile="auto", verbose=1), made()
    for trained in (model, plain):
        if entry == "learn":
            trained.learn_offline(2)
            trained.learn_offline(3)
        else:
            for _ in range(5):
                step(trained)
    assert compiled_from_the_fourth == ["compiled", "called", "called"]
    assert model.trainer.mode.compiled
    assert capsys.readouterr().out.count("updates are compiled") == 1
    assert_same(model, plain)


def test_a_loaded_model_is_compiled_where_the_saved_one_was(compiled_from_the_fourth, tmp_path):
    model = made(compile="auto")
    model.learn_offline(2)
    for compiled in (False, True):
        model.save(tmp_path / "model")
        model = type(model).load(tmp_path / "model", model.get_env())
        assert model.trainer.mode.compiled == compiled
        model.load_dataset(toy_dataset())
        model.learn_offline(2)
    assert compiled_from_the_fourth == ["compiled", "called", "compiled", "called", "called"]


@pytest.fixture
def compile_with(monkeypatch):
    """Let models be compiled by another backend."""
    real = torch.compile
    yield lambda backend: monkeypatch.setattr(
        torch, "compile", lambda function, **settings: real(function, backend=backend, **settings)
    )
    torch._dynamo.reset()


def broken(graph, inputs):
    raise OSError("no C++ compiler found")


@pytest.mark.parametrize(
    "backend",
    [broken, aot_autograd(fw_compiler=lambda graph, inputs: graph.forward, bw_compiler=broken)],
    ids=["forwards", "backwards"],
)
def test_a_failing_compiler_is_named_and_the_updates_go_on(backend, compile_with):
    compile_with(backend)
    model, plain = made("bc", compile="on"), made("bc")
    assert_falls_back(
        model, plain, "updates are not compiled: .*no C.. compiler found.*; continuing without it"
    )
    assert str(model.trainer.mode).startswith("eager")


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("id", "settings"),
    [(id, {}) for id in ("fql", "trqam", "sqam", "cgql", "dac")]
    + [("qam", {"best_of_n": 3, "residual": True})]
    + [
        ("trqam", {"pretraining_steps": 5}),
        ("qam", {"policy_kwargs": {"activation_fn": torch.nn.ReLU}}),
    ],
)
def test_the_compiler_sees_the_losses_as_one_graph(id, settings):
    model = made(id, **settings)
    explanation = torch._dynamo.explain(model.trainer.losses)(toy_batch(model), toy_noise(model))
    torch._dynamo.reset()
    assert (explanation.graph_count, explanation.graph_break_count) == (1, 0), (
        explanation.break_reasons
    )


def test_every_model_of_a_process_is_compiled(compile_with):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_with(backend)
    for count in range(
        1, 11
    ):  # eight is where the compiler stops for a piece of code, without a word
        model = made("bc", compile="on", net_arch=[count])
        model.trainer.update(16)
        assert model.trainer.mode.compiled
        assert len(graphs) == count
    model.trainer.prepare()  # another phase of the same model
    model.trainer.update(16)
    assert len(graphs) == 10
