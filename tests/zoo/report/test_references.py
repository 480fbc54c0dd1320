import pytest

from tests.zoo.outcomes import refuses
from tests.zoo.runs.helpers import ENV, write_run
from zoo.report.inputs import normalise_returns, read_references
from zoo.runs.read import read_runs


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Return runs on an environment that reports success, and on two that do not."""
    folder = tmp_path_factory.mktemp("logs")
    write_run(folder / "a", offline=(25,))
    write_run(folder / "b", env="Pendulum-v1", offline=(-1500.0, -825.0), has_success=False)
    write_run(folder / "c", env="HalfCheetah-v5", offline=(3000.0,), has_success=False)
    return read_runs([folder])


def test_words_give_random_and_expert_returns_and_last_one_wins(tables):
    words = ["Pendulum-v1=-1500,-150", "HalfCheetah-v5=0,1e4", "Pendulum-v1=-1600,-100"]
    assert read_references(words, tables) == {
        "Pendulum-v1": (-1600.0, -100.0),
        "HalfCheetah-v5": (0.0, 10_000.0),
    }


def test_returns_with_reference_are_normalised_and_nothing_else(tables):
    normalised = normalise_returns(tables.evaluations, {"Pendulum-v1": (-1500.0, -150.0)})
    by_environment = normalised.groupby("environment")
    assert by_environment["score"].apply(list).to_dict() == {
        "Pendulum-v1": pytest.approx([0.0, 0.5]),
        "HalfCheetah-v5": pytest.approx([3000.0]),
        ENV: [0.5],
    }
    assert by_environment["kind"].first().to_dict() == {
        "Pendulum-v1": "normalised return",
        "HalfCheetah-v5": "return",
        ENV: "success",
    }
    # a file of scores contains returns too, so other references replace the first ones
    others = {"Pendulum-v1": (-1700.0, -100.0)}
    again = normalise_returns(normalised, others)
    assert again.equals(normalise_returns(tables.evaluations, others))


@pytest.mark.parametrize(
    ("word", "problem"),
    {
        "Pendulum-v1": "must be ENV=LOW,HIGH",
        "Pendulum-v1=.inf,2": "must be two finite numbers",
        "Pendulum-v1=3,3": "must be in increasing order",
        "Pendulum-v0=1,2": "unknown environment",
    }.items(),
)
def test_bad_word_is_refused(tables, word, problem):
    with refuses(f"--reference-scores.*{problem}"):
        read_references([word], tables)


def test_references_that_runs_record_serve_all_runs(tmp_path):
    about = {"env": "Pendulum-v1", "has_success": False, "offline": (-825.0,)}
    write_run(tmp_path / "a", **about, reference_scores=[-1500, -150], score="return")
    write_run(tmp_path / "b", **about, seed=1)
    tables = read_runs([tmp_path])
    assert read_references([], tables) == {"Pendulum-v1": (-1500.0, -150.0)}
    write_run(tmp_path / "c", **about, seed=2, reference_scores=[-1600, -150])
    tables = read_runs([tmp_path])
    assert read_references(["Pendulum-v1=-1,0"], tables) == {"Pendulum-v1": (-1.0, 0.0)}
    with refuses("have different reference scores"):
        read_references([], tables)
