"""What a command line asks for, and the command line that asks for it."""

from pathlib import Path

import pytest

from zoo.terminal.errors import UsageError
from zoo.training.flags import make_parser, read_request
from zoo.training.request import TrainRequest


def read(*words):
    return read_request(make_parser().parse_args([str(word) for word in words]))


def test_what_is_not_asked_for_has_the_default_of_the_request():
    assert read("--algo", "qam", "--env", "Pendulum-v1") == TrainRequest(
        algo="qam", env="Pendulum-v1"
    )


REQUESTS = [
    {
        "quick": True,
        "seeds": (3, 7),
        "resume": True,
        "progress": True,
        "num_threads": 2,
        "verbose": 0,
    },
    {
        "hyperparams": ("net_arch=[8, 8]", 'learning_rate="lin_1e-3"'),
        "env_kwargs": ("a=-1", "b={c: 1}"),
        "label": "-x",
    },
    {
        "log_folder": Path("my logs"),
        "tensorboard_log": Path("tb"),
        "conf_file": Path("a.yml"),
        "dataset": "data.npz",
    },
    {
        "run": {
            "reference_scores": [-1600.0, -150.5],
            "eval_at_start": False,
            "success_return": -3.0,
            "eval_freq": 7,
        }
    },
    {
        "run": {"env_wrapper": ["a:B", {"c:D": {"k": [1, "x"]}}], "offline_data": "none"},
        "vec_env": "subproc",
    },
    {"study": "s:t", "trial_id": "best", "device": "cuda:1", "precision": "tf32", "compile": "off"},
]


@pytest.mark.parametrize("values", REQUESTS, ids=lambda values: next(iter(values)))
def test_the_command_line_of_a_request_asks_for_it(values):
    request = TrainRequest(algo="my_package:Mine", env="Pendulum-v1", **values)
    assert read(*request.command_line()) == request


def test_a_request_without_an_environment_is_asked_for_by_its_data():
    request = TrainRequest(algo="qam", no_env=True, dataset="my.npz", spaces=Path("spaces.yml"))
    assert read(*request.command_line()) == request


def test_arguments_are_plain_values_under_the_names_of_the_flags():
    request = TrainRequest(
        algo="qam", env="x", seeds=(1, 2), log_folder=Path("logs"), run={"eval_freq": 7}
    )
    arguments = request.arguments()
    assert (arguments["seeds"], arguments["log_folder"], arguments["eval_freq"]) == (
        [1, 2],
        "logs",
        7,
    )
    assert "run" not in arguments


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--spaces a.yml", "`--spaces` are those of data without an environment"),
        ("--study s", "`--study` and `--trial-id` belong together"),
        ("--wandb-group g", "the flags of Weights & Biases need --track"),
        ("--seeds 1 1", "`--seeds` expects different seeds"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(words, message):
    with pytest.raises(UsageError, match=message):
        read("--algo", "qam", "--env", "x", *words.split())
