"""Conversion of a command line to a request, and of a request to a command line."""

from pathlib import Path

import pytest

from zoo.settings.request import TrainRequest, read_request
from zoo.train import make_parser


def read(*words):
    return read_request(make_parser().parse_args([str(word) for word in words]))


REQUESTS = [
    {},
    {"quick": True, "seeds": (3, 7), "resume": True, "num_threads": 2},
    {"hyperparams": ("net_arch=[8, 8]", 'learning_rate="lin_1e-3"'), "label": "-x", "verbose": 0},
    {
        "log_folder": Path("/my logs"),
        "conf_file": Path("/a.yml"),
        "env_kwargs": ("a=-1", "b={c: 1}"),
    },
    {"run": {"reference_scores": [-1600.0, -150.5], "eval_freq": 7}},
    {"run": {"env_wrapper": ["a:B", {"c:D": {"k": [1, "x"]}}]}, "vec_env": "subproc"},
    {"run": {"compile": "off"}},
    {"env": "", "no_env": True, "dataset": "my.npz"},
]


@pytest.mark.parametrize("values", REQUESTS, ids=str)
def test_a_requests_command_line_asks_for_it_alone(values):
    always = {"algo": "my_package:Mine", "env": "Pendulum-v1", "log_folder": Path.cwd()}
    request = TrainRequest(**always | values)
    assert read(*request.command_line()) == request


def test_a_new_dataset_folder_is_absolute():
    words = ["--algo", "qam", "--env", "x"]
    for path, folder in {"new": Path.cwd(), "~/new": Path.home()}.items():
        assert read(*words, "--dataset-dir", path).dataset_dir == str(folder / "new")
