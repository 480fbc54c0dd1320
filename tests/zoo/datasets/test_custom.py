"""The findings of `zoo dataset check` in readable datasets: the errors and warnings that training would raise."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from tests.envs import PicturesEnv
from tests.zoo.datasets.conftest import NAME, TASK_1
from tests.zoo.datasets.samples import ENV, episodes, in_two, regular, write_minari, write_npz
from tests.zoo.outcomes import refuses
from zoo.dataset import main
from zoo.datasets.custom import load_custom


def written(folder, **changes):
    """Write three episodes, with some arrays changed."""
    return write_npz(folder, episodes(3), **changes)


ARRAYS = regular(episodes(3))
CONSTANT = {"rewards": np.full(59, -1.0)}


@pytest.mark.parametrize(("terminated", "ends"), [([], 0), ([18], 1)])
def test_constant_rewards_are_warned_of(tmp_path, terminated, ends):
    masks = ~np.isin(np.arange(59), terminated)
    with pytest.warns(UserWarning, match=f"all rewards are -1 and {ends} steps are terminal"):
        load_custom(written(tmp_path, masks=masks, **CONSTANT), gymnasium.make(ENV))


def test_a_check_tells_errors_and_warnings(tmp_path, call):
    path = written(tmp_path, actions=ARRAYS["actions"] * 50, **CONSTANT)
    words = ("check", path, "--env", ENV)
    result, _ = call(main, *words, code=2)
    assert [row["severity"] for row in result["findings"]] == ["error", "warning"]
    assert "`--action-range" in result["findings"][0]["message"]
    assert call(main, *words, "--action-range=-100,100")[0]["sound"]
    loaded = load_custom(path, gymnasium.make(ENV), action_range=(-100, 100)).content
    assert loaded.arrays["actions"] == pytest.approx(ARRAYS["actions"], abs=1e-6)


@pytest.mark.parametrize("is_first", [True, False])
def test_images_may_have_their_channels_first_or_last(tmp_path, is_first):
    shape = (16, 16, 3) if is_first else (3, 16, 16)
    images = np.zeros((59, *shape), np.uint8)
    path = written(
        tmp_path, observations=images, next_observations=images, actions=np.zeros((59, 2))
    )
    env = PicturesEnv(channels_first=is_first)
    assert load_custom(path, env).content.num_transitions == 59


class FlatEnv(gymnasium.Env[Any, Any]):
    """Observes two vectors, with z before a."""

    observation_space = Dict([("z", Box(-np.inf, np.inf, (2,))), ("a", Box(-np.inf, np.inf, (2,)))])
    action_space = Box(-2, 2, (2,), np.float32)


def make_flat():
    return gymnasium.wrappers.FlattenObservation(FlatEnv())


FLAT = "Flat-v0"
gymnasium.register(FLAT, entry_point=f"{__name__}:make_flat")


def test_parts_in_another_order_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    recorded = FlatEnv.observation_space
    for name, space in {"same": recorded, "sorted": Dict(dict(recorded.spaces))}.items():
        name = f"flat/{name}-v0"
        write_minari(tmp_path, in_two(episodes()), name, env=FLAT, observation_space=space)
    assert load_custom("minari:flat/same-v0", gymnasium.make(FLAT)).content.num_transitions == 39
    text = r"order observations/a, observations/z, but Flat-v0 flattens .*/z, .*/a"
    with refuses(text):
        load_custom("minari:flat/sorted-v0", gymnasium.make(FLAT))


def test_a_set_is_checked_without_an_environment(tmp_path, call):
    path = written(tmp_path, **CONSTANT)
    assert [row["severity"] for row in call(main, "check", path)[0]["findings"]] == ["warning"]
    path = written(tmp_path, rewards=np.full(59, np.nan))
    assert "finite" in call(main, "check", path, code=2)[0]["findings"][0]["message"]


@pytest.mark.parametrize(
    ("words", "text"),
    {
        f"check cube-double-play-v0 --env {ENV}": "other flags are for your data",
        "check a.npz --action-range 0,1": "need `--env`",
        "check a.npz --env-kwargs a=1": "need `--env`",
        f"check {{folder}} --env {TASK_1} --action-range 0,1": "states of OGBench without rewards",
        "convert a.npz -o a.csv": "`--output` must name an .npz file",
        "convert a.npz -o {folder}": "`--output` must be a file in a folder that exists",
        "check nothing.csv": "there is no dataset at nothing.csv",
        "check nonsense --env Pendulum-v1": "unknown dataset `nonsense`",
        "convert nonsense -o {folder}/x.npz": "unknown dataset `nonsense`",
        f"convert {NAME} -o {{folder}}/x.npz": f"{NAME} is an OGBench dataset",
    }.items(),
)
def test_flags_and_places_that_cannot_be_used_are_refused(tmp_path, refusal, words, text):
    folder = tmp_path / "folder.npz"
    converted = folder / "arrays" / "task"
    converted.mkdir(parents=True)
    (converted / "shard.json").touch()
    assert text in refusal(main, *words.format(folder=folder).split())
