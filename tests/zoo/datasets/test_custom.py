"""What `zoo dataset check` finds in a set that can be read: what training would refuse or warn of."""

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from tests.zoo.datasets.samples import ENV, episodes, in_two, regular, write_minari
from tests.zoo.envs.toys import SpringEnv
from zoo.dataset import main
from zoo.datasets.custom import check_fit, load_custom
from zoo.datasets.files import DatasetError
from zoo.datasets.formats.read import read_source
from zoo.terminal.errors import UsageError


def written(folder, change=lambda arrays: None):
    arrays = regular(episodes(3))
    change(arrays)
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def constant(arrays):
    arrays["rewards"][:] = -1


def without_success(arrays):
    constant(arrays)
    arrays["timeouts"] |= arrays["terminals"]
    arrays["terminals"][:] = False


def limits_terminate_too(arrays):
    arrays["terminals"][-1] = True


def far_actions(arrays):
    arrays["actions"] *= 50


WARNED = {
    "no success": (without_success, "every reward is -1, and 0 steps end the task"),
    "constant rewards": (constant, "every reward is -1, and 1 steps end the task"),
    "limits": (limits_terminate_too, "1 of 2 time limits are marked as terminations too"),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_is_probably_a_mistake_is_warned_of(tmp_path, case):
    change, text = WARNED[case]
    with pytest.warns(UserWarning, match=re.escape(text)):
        load_custom(written(tmp_path, change), ENV, {})


def test_actions_in_other_units_are_refused_unless_the_range_is_said(tmp_path, recwarn):
    path = written(tmp_path, far_actions)
    with pytest.raises(DatasetError, match="`--action-range"):
        load_custom(path, ENV, {})
    load_custom(path, ENV, {}, action_range=(-100.0, 100.0))
    load_custom(written(tmp_path), ENV, {})
    assert not recwarn.list


def test_a_set_of_another_size_is_refused(tmp_path):
    with pytest.raises(
        DatasetError, match=r"`observations` must have rows of .* as in Pendulum-v1"
    ) as caught:
        load_custom(written(tmp_path), "Pendulum-v1", {})
    assert caught.value.array == "observations"


def test_a_check_tells_errors_and_warnings(tmp_path, call):
    words = (
        "check",
        written(tmp_path, lambda arrays: (far_actions(arrays), constant(arrays))),
        "--env",
        ENV,
    )
    result, _ = call(main, *words, code=2)
    assert [(row["severity"], row["array"]) for row in result["findings"]] == [
        ("error", "actions"),
        ("warning", "file"),
    ]
    assert result["transitions"] == 59
    assert call(main, *words, "--action-range=-100,100")[0]["sound"]


class FlatEnv(gymnasium.Env[Any, Any]):
    """Observes two vectors, z before a."""

    observation_space = Dict([("z", Box(-np.inf, np.inf, (2,))), ("a", Box(-np.inf, np.inf, (2,)))])
    action_space = Box(-2, 2, (2,), np.float32)


def make_flat():
    return gymnasium.wrappers.FlattenObservation(FlatEnv())


FLAT = "Flat-v0"
gymnasium.register(FLAT, entry_point=f"{__name__}:make_flat")


def test_parts_in_another_order_than_the_environment_flattens_them_are_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    parts = in_two(episodes())
    same = write_minari(
        tmp_path, parts, "flat/same-v0", env=FLAT, observation_space=FlatEnv.observation_space
    )
    space = Dict(dict(FlatEnv.observation_space.spaces))  # which sorts its parts
    sorted_parts = write_minari(
        tmp_path, parts, "flat/sorted-v0", env=FLAT, observation_space=space
    )
    assert load_custom(same, FLAT, {}).num_transitions == 39
    with pytest.raises(
        UsageError, match=r"order observations/a, observations/z, and Flat-v0 flattens .*/z, .*/a"
    ):
        load_custom(sorted_parts, FLAT, {})


class IntegerEnv(SpringEnv):
    """Observes and takes integers."""

    observation_space = Box(0, 255, (4,), np.uint8)
    action_space = Box(0, 10, (2,), np.int64)


INTEGERS = "Integers-v0"
gymnasium.register(INTEGERS, entry_point=f"{__name__}:IntegerEnv")


def to_integers(arrays):
    steps = np.arange(len(arrays["actions"]))[:, None]
    for later, name in enumerate(("observations", "next_observations")):
        arrays[name] = np.arange(4)[None] + steps + later
    arrays["actions"] = np.tile(np.array([9.0, 1.0]), (len(arrays["actions"]), 1))


NOT_INTEGERS = {
    "fractions observed": ("observations", 2.506, "observations"),
    "more than a byte observed": ("observations", 256, "observations"),
    "fractions played": ("actions", 9.51, "actions"),
}


@pytest.mark.parametrize("case", NOT_INTEGERS)
def test_values_that_a_space_of_integers_does_not_hold_are_refused(tmp_path, case):
    name, value, array = NOT_INTEGERS[case]
    spaces = IntegerEnv.observation_space, IntegerEnv.action_space
    check_fit("a", read_source(written(tmp_path, to_integers)), INTEGERS, spaces, None)

    def change(arrays):
        to_integers(arrays)
        arrays[name] = arrays[name].astype(float)
        arrays[name][3, 1] = value

    with pytest.raises(
        DatasetError, match=f"must be integers from 0 to .*, got {value} in row 3, coordinate 1"
    ) as caught:
        check_fit("a", read_source(written(tmp_path, change)), INTEGERS, spaces, None)
    assert caught.value.array == array


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, np.inf)])
def test_observations_outside_of_their_space_are_warned_of(tmp_path, low, high):
    spaces = Box(low, high, (4,)), SpringEnv.action_space
    with pytest.warns(
        UserWarning, match="`observations` lie from .* in the environment, got .* other units"
    ):
        check_fit("a", read_source(written(tmp_path)), ENV, spaces, None)


@pytest.mark.parametrize("words", [[], ["--no-env"]])
def test_a_set_is_checked_without_an_environment(tmp_path, call, refusal, words):
    path = written(tmp_path, constant)
    result, _ = call(main, "check", path, "--action-range=-2,2", *words)
    assert result["sound"]
    assert [row["severity"] for row in result["findings"]] == ["warning"]
    result, _ = call(main, "check", path, "--action-range=-1,1", *words, code=2)
    assert result["findings"][0]["array"] == "actions"
    np.savez(path, **regular(episodes()) | {"rewards": np.full(39, np.nan)})
    assert "must hold finite numbers" in refusal(main, "check", path, *words)


def test_images_are_checked_without_an_environment_but_not_for_training_without_one(
    tmp_path, call, refusal
):
    images = np.zeros((40, 8, 8, 3), np.uint8)
    arrays = {"observations": images[1:], "next_observations": images[:-1]}
    np.savez(tmp_path / "a.npz", **regular(episodes()) | arrays)
    assert call(main, "check", tmp_path / "a.npz")[0]["sound"]
    assert "got images" in refusal(main, "check", tmp_path / "a.npz", "--no-env")


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (
            ["--env", ENV, "--action-range=-5,5"],
            f"zoo train --algo fql --dataset {{path}} --env {ENV} --action-range=-5,5",
        ),
        (["--no-env"], "zoo train --algo fql --dataset {path} --no-env"),
        ([], "zoo train --algo fql --dataset {path} --env ENV"),
    ],
)
def test_the_command_that_follows_a_check_has_its_flags_and_can_be_copied(
    tmp_path, monkeypatch, capsys, words, command
):
    folder = tmp_path / "my logs"
    folder.mkdir()
    path = written(folder)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["check", str(path), *words]) == 0
    assert command.format(path=f"'{path}'") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["check", "cube-double-play-v0", "--env", ENV], "--env belong to a dataset of your own"),
        (
            ["check", "a.hdf5", "--env", ENV, "--columns", "rewards=a", "rewards=b"],
            "with each name once",
        ),
        (["convert", "a.npz", "-o", "{folder}"], "`--output` must name an .npz file"),
        (
            ["convert", "a.npz", "-o", "{folder}/none/a.npz"],
            "in a folder that exists and can be written to",
        ),
        (["check", "nothing.csv"], "expected a dataset at nothing.csv, got nothing"),
    ],
)
def test_flags_that_nothing_reads_and_places_that_cannot_be_written_are_refused(
    tmp_path, refusal, words, text
):
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    assert text in refusal(main, *(word.format(folder=folder) for word in words))
