"""Run Stable-Baselines3's own tests with a class of ours in the place of ``SAC``.

    python tests/sb3/run_upstream.py PATH_TO_SB3_SOURCES [pytest arguments]

The sources are a checkout or an unpacked source distribution of the installed version:
``pip download stable-baselines3 --no-deps --no-binary :all:``. This file is a pytest plugin too.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

FILES = (
    "test_save_load.py", "test_run.py", "test_predict.py", "test_deterministic.py", "test_callbacks.py",
    "test_vec_normalize.py", "test_train_eval_mode.py", "test_n_step_replay.py", "test_buffers.py", "test_spaces.py",
    "test_custom_policy.py", "test_identity.py", "test_dict_env.py", "test_cnn.py", "test_her.py", "test_sde.py",
)  # fmt: skip
SMALL: dict[str, Any] = {
    "net_arch": [32, 32], "ensemble_size": 2, "flow_steps": 2, "horizon_length": 3, "learning_starts": 100,
}  # fmt: skip


def pytest_configure() -> None:
    """Put our class, with small networks and SB3's warm-up, where the tests import ``SAC`` from."""
    import stable_baselines3

    import agents

    class QAM(agents.QAM):
        def __init__(self, policy: Any, env: Any, *args: Any, **more: Any) -> None:
            taken = {"horizon_length"} if "n_steps" in more else set()
            taken |= {"learning_starts"} if len(args) > 2 else set()
            super().__init__(policy, env, *args, **{k: v for k, v in SMALL.items() if k not in taken} | more)

    QAM.__module__ = QAM.__qualname__ = "QAM"
    stable_baselines3.SAC = QAM  # type: ignore[misc,assignment]


def main(path: str, *more: str) -> int:
    """Run the files that concern an off-policy algorithm.

    :param path: SB3's sources.
    :param more: arguments for pytest.
    :return: pytest's exit code.
    """
    tests = Path(path).resolve() / "tests"
    if not tests.is_dir():
        print(f"expected SB3's sources with a folder `tests`, got {path}", file=sys.stderr)
        return 2
    files = [str(tests / name) for name in FILES if (tests / name).exists()]
    command = [sys.executable, "-m", "pytest", "-p", "tests.sb3.run_upstream", "-c", "/dev/null", "--rootdir", str(tests)]
    return subprocess.call([*command, "-k", "QAM", "-q", *files, *more], cwd=Path(__file__).parents[2])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else 2)
