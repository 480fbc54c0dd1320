"""Conversion of a command line to a request, and of a request to a command line."""

from pathlib import Path

import pytest

from zoo.settings.request import TrainRequest, read_request
from zoo.suites.jobs import command_line
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
]


@pytest.mark.parametrize("values", REQUESTS, ids=str)
def test_a_requests_command_line_asks_for_it_alone(values):
    always = {"algo": "my_package:Mine", "env": "Pendulum-v1", "log_folder": Path.cwd()}
    request = TrainRequest(**always | values)
    assert read(*command_line(request)) == request


def test_a_new_dataset_folder_is_absolute():
    words = ["--algo", "qam", "--env", "x"]
    for path, folder in {"new": Path.cwd(), "~/new": Path.home()}.items():
        assert read(*words, "--dataset-dir", path).dataset_dir == str(folder / "new")
