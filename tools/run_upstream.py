"""Run Stable-Baselines3's tests with one of our classes instead of ``SAC``.

    python tools/run_upstream.py PATH_TO_SB3_SOURCES [pytest arguments]
    HORIZON=3 python tools/run_upstream.py PATH_TO_SB3_SOURCES    # the same with chunks of three actions

The sources are a checkout or an unpacked source distribution of the installed version:
``pip download stable-baselines3 --no-deps --no-binary :all:``. This file is also a pytest plugin.

Every test that uses ``SAC`` runs, whether it is parametrised over algorithms or not. Only ``test_sde.py`` is left out,
because state-dependent exploration (gSDE) needs a Gaussian policy. If other tests pass arguments of Gaussian policies,
i.e. of gSDE and the entropy coefficient, these are dropped. Tests that must fail are in ``NOT_OF_FLOWS``, with the
feature that does not exist here. Tests of hindsight replay must fail, too.
"""

import os
import subprocess
import sys
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm

import agents

FILES = (
    "test_save_load.py", "test_run.py", "test_predict.py", "test_deterministic.py", "test_callbacks.py",
    "test_vec_normalize.py", "test_train_eval_mode.py", "test_n_step_replay.py", "test_spaces.py",
    "test_custom_policy.py", "test_identity.py", "test_dict_env.py", "test_cnn.py", "test_her.py",
    "test_tensorboard.py", "test_gae.py",
)  # fmt: skip
NOT_OF_FLOWS = {
    "test_save_load_pytorch_var": "reads SAC's entropy coefficient, which a flow policy lacks",
    "test_save_load_replay_buffer": "assigns a device to the model, which does not move our buffer",
    "test_offpolicy_multi_env": "reads the number of updates between log entries; here only entries have it",
    "test_n_steps_warns_with_custom_replay_buffer_class": "SB3's buffers of single transitions lack sequences",
    "test_n_steps_custom_class_no_warnings": "SB3's buffers of single transitions lack sequences",
    "test_warn_buffer": "transitions are stored in another layout, without SB3's option to save memory",
    "test_n_steps_with_dict_obs": "expects SB3's warning that its buffers of Dict observations hold single transitions",
    "test_run": "expects SB3's buffer class for n-step returns",
    "test_features_extractor_target_net": "every network has its own extractor; no setting makes networks share one",
}
GAUSSIAN = ("use_sde", "sde_sample_freq", "use_sde_at_warmup", "ent_coef")
SMALL: dict[str, Any] = {
    "net_arch": [32, 32],
    "ensemble_size": 2,
    "flow_steps": 5,
    "inverse_temperature": 30.0,
    "learning_starts": 100,
    "horizon_length": int(os.environ.get("HORIZON", "1")),
}


class QAM(agents.QAM):
    """QAM with small networks and SB3's warm-up, without the tests' arguments for Gaussian policies."""

    def __init__(self, policy: Any, env: Any, *args: Any, **kwargs: Any) -> None:
        settings = SMALL | kwargs
        for name in GAUSSIAN:
            settings.pop(name, None)
        if "n_steps" in kwargs:
            del settings["horizon_length"]
        policy_kwargs = kwargs.get("policy_kwargs") or {}
        if "n_critics" in policy_kwargs:
            del settings["ensemble_size"]
        if "net_arch" in policy_kwargs:
            del settings["net_arch"]
        super().__init__(policy, env, *args, **settings)

    # the folder in which SB3's tests look for SAC's logs
    learn: Any = partialmethod(agents.QAM.learn, tb_log_name="SAC")


def uses_sac(item: pytest.Function) -> bool:
    """Return whether a test uses SAC, which our class replaces."""
    values = list(item.callspec.params.values()) if hasattr(item, "callspec") else []
    classes = [value for value in values if isinstance(value, type)]
    if any(issubclass(value, BaseAlgorithm) for value in classes):
        return QAM in classes
    strings = [value for value in values if isinstance(value, str)]
    return "sac" in strings or "SAC" in item.function.__code__.co_names


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep only tests of SAC, and mark those of unsupported features, which must fail with one of the listed errors."""
    chosen = [item for item in items if isinstance(item, pytest.Function) and uses_sac(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
    failures = (
        AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError, pytest.fail.Exception,
    )  # fmt: skip
    for item in chosen:
        name, file = item.originalname, item.path.name
        expected: dict[str, Any] = {}
        if name in NOT_OF_FLOWS:
            expected = {"reason": NOT_OF_FLOWS[name], "raises": failures}
        elif name == "test_her_normalization" or file == "test_her.py":
            expected = {"reason": "hindsight replay is SB3's own buffer", "raises": TypeError}
        elif name == "test_callbacks_can_cancel_runs" and SMALL["horizon_length"] > 1:
            expected = {"reason": "its buffer of one transition cannot hold a chunk"}
        elif name == "test_infinite_horizon" and SMALL["horizon_length"] > 1:
            expected = {
                "reason": "passes a single action to the critic, which here evaluates whole chunks"
            }
        elif file == "test_identity.py" and SMALL["horizon_length"] > 1:
            expected = {
                "reason": "states are sampled anew at each step, so an action chunk cannot match them"
            }
        if expected:
            item.add_marker(pytest.mark.xfail(**expected))


def pytest_configure() -> None:
    """Replace the imported ``SAC`` with our class in all tests."""
    vars(stable_baselines3)["SAC"] = QAM


def main(path: str, *arguments: str) -> int:
    """Run the files that concern an off-policy algorithm.

    :param path: SB3's sources.
    :param arguments: for pytest.
    :return: pytest's exit code.
    """
    tests = Path(path).resolve() / "tests"
    if not tests.is_dir():
        print(f"expected SB3's sources with a folder `tests`, got {path}", file=sys.stderr)
        return 2
    files = [str(tests / name) for name in FILES]
    options = ["-p", "tools.run_upstream", "-c", os.devnull, "--rootdir", str(tests)]
    return subprocess.call(
        [sys.executable, "-m", "pytest", *options, *files, *arguments],
        cwd=Path(__file__).parents[1],
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else 2)
