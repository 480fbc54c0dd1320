"""OCBench's data: read as its own loader reads them, downloaded, found on the disk, or generated with its oracles."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.zoo.datasets.conftest import changed
from tests.zoo.datasets.samples import read
from tests.zoo.outcomes import refuses
from zoo.datasets import benchmarks as sets
from zoo.datasets.benchmarks import (
    describe_task,
    download_ocbench,
    find_set,
)
from zoo.datasets.files import generated_files
from zoo.datasets.generate import OracleWriter, generate_dataset
from zoo.envs.make import make_env
from zoo.envs.tasks import TASKS
from zoo.terminal.errors import UsageError

LENGTHS = (3, 1, 4)


def arrays(lengths=LENGTHS, **changes):
    """Return episodes of some lengths in OCBench's format; the last is cut off, the others terminate."""
    generator, steps = np.random.default_rng(0), sum(lengths)
    terminals = np.isin(np.arange(steps), np.cumsum(lengths) - 1)
    values = {
        "observations": generator.normal(size=(steps + len(lengths), 5)),
        "actions": generator.uniform(-1, 1, (steps, 7)),
        "rewards": generator.integers(0, 2, steps),
        "masks": ~terminals | (np.arange(steps) == steps - 1),
        "qpos": np.zeros((steps, 3)),  # what training does not need
    }
    values = {name: value.astype(np.float32) for name, value in values.items()}
    values |= {"observation_interval": np.asarray(1, np.int32), "terminals": terminals}
    return changed(values, changes)


def write(folder, name="a", **changes):
    path = folder / f"{name}.npz"
    np.savez_compressed(path, **arrays(**changes))
    return path


def content_of(folder):
    """Return the npz files of a folder by name, in order."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


@pytest.fixture(scope="module")
def ocbench():
    """Return the package, which these tests need."""
    return pytest.importorskip("ocbench", reason="needs OCBench")


def test_every_transition_is_that_of_ocbenchs_loader(ocbench, tmp_path):
    path = write(tmp_path)
    reference, arrays_read = ocbench.load_dataset(path), read(path)
    steps, rows = ocbench.get_episode_offsets(reference)
    assert_array_equal(arrays_read["observations"], reference["observations"])
    is_step = arrays_read["valids"] == 1
    for name in ("actions", "rewards", "masks"):
        assert_array_equal(arrays_read[name][is_step], reference[name], err_msg=name)
    assert_array_equal(np.flatnonzero(~is_step), rows[1:] - 1)
    assert_array_equal(arrays_read["terminals"][is_step], reference["terminals"])
    assert steps[-1] == is_step.sum() == sum(LENGTHS)


def test_several_files_follow_one_another_without_those_for_validation(tmp_path):
    write(tmp_path, "set-000")
    write(tmp_path, "set-001", lengths=(2,))
    write(tmp_path, "set-000-val", lengths=(9,))
    arrays_read = read(tmp_path)
    assert (arrays_read["valids"] == 1).sum() == sum(LENGTHS) + 2
    assert_array_equal(arrays_read["observations"][-3:], arrays((2,))["observations"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation_interval": np.asarray(5)}, "5, expected 1: it leaves observations out"),
        (
            {"observations": np.zeros((8, 5))},
            "must have 11 rows, .* 8 actions .* 3 episodes, got 8",
        ),
        ({"observations": np.zeros(())}, "must have 11 rows"),
        ({"terminals": np.zeros(8, bool)}, "`terminals` must be"),
        ({"terminals": None}, "missing: terminals"),
        ({"actions": np.zeros(8, np.float32)}, "`actions` must be continuous"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, changes, message):
    with refuses(message):
        read(write(tmp_path, **changes))


# -- where the data come from ------------------------------------------------------------------------------------------


TASK = TASKS["block-cpu-lite-single-task1-v0"]
FOLDER = "lite/block-lite-single-task1-v0"


@pytest.fixture
def hosted(ocbench, monkeypatch):
    """Return the training files that OCBench hosts of any task, which arrive at once."""
    names = ["set-000.npz", "set-001.npz"]

    def download(env_name, root, count):
        if not names:
            raise ValueError(f"No released dataset is available for {env_name}.")
        (root / FOLDER).mkdir(parents=True, exist_ok=True)
        for name in names[:count]:
            write(root / FOLDER, name[:-4])
        print("Dataset ready.")

    monkeypatch.setattr("ocbench.dataset_utils.download_datasets", download)
    return names


@pytest.fixture
def generated(monkeypatch):
    """Return the tasks whose data are generated, which takes no time here."""
    names = []

    def generate(name, folder, *, existing):
        files = generated_files(name, folder)
        if not files[0].exists():
            names.append(name)
            files[0].parent.mkdir(parents=True, exist_ok=True)
            files[0].touch()
        return files

    monkeypatch.setattr(sets, "generate_dataset", generate)
    return names


def test_ocbench_downloads_to_its_own_place_and_says_so_beside_the_result(hosted, tmp_path, capsys):
    folder = download_ocbench(TASK, tmp_path, num_files=1)
    assert list(content_of(folder)) == hosted[:1]
    assert folder == tmp_path / FOLDER
    assert find_set(TASK, tmp_path, "auto") == folder  # which completes it
    assert list(content_of(folder)) == hosted
    (folder / "old.npz").touch()
    download_ocbench(TASK, tmp_path, replace=True)
    assert list(content_of(folder)) == hosted
    assert describe_task(TASK, tmp_path)["downloaded"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [OSError("no route to host"), KeyboardInterrupt()])
def test_files_stay_until_those_that_replace_them_are_complete(
    hosted, tmp_path, monkeypatch, error
):
    folder = download_ocbench(TASK, tmp_path)
    content = content_of(folder)

    def fail(env_name, root, count):
        (root / FOLDER).mkdir(parents=True)
        write(root / FOLDER, "set-000", lengths=(9,))
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("ocbench.dataset_utils.download_datasets", fail)
        with pytest.raises((UsageError, KeyboardInterrupt)):
            download_ocbench(TASK, tmp_path, replace=True)
    assert content_of(folder) == content
    download_ocbench(TASK, tmp_path, num_files=1, replace=True)
    assert list(content_of(folder)) == hosted[:1]
    assert not list(tmp_path.glob(".*"))


def test_without_hosted_data_they_are_generated(hosted, generated, tmp_path):
    hosted.clear()
    with pytest.warns(
        UserWarning,
        match="the download failed: No released dataset .*generating block-cpu-lite-single",
    ):
        assert find_set(TASK, tmp_path, "auto") == generated_files(TASK.name, tmp_path)[0]
    assert find_set(TASK, tmp_path, "auto") == generated_files(TASK.name, tmp_path)[0]
    assert generated == [TASK.name]
    with refuses("there is no complete dataset in"):
        find_set(TASK, tmp_path, "download")


def test_a_download_is_preferred_to_generated_data_unless_these_are_asked_for(
    hosted, generated, tmp_path
):
    find_set(TASK, tmp_path, "generate")
    assert (
        find_set(TASK, tmp_path, "download")
        == find_set(TASK, tmp_path, "auto")
        == tmp_path / FOLDER
    )
    assert find_set(TASK, tmp_path, "generate") == generated_files(TASK.name, tmp_path)[0]
    assert find_set(TASK, tmp_path) == tmp_path / FOLDER
    hosted.clear()  # what cannot be completed is not trained on silently
    with refuses(f"there is no complete dataset in .*--dataset {tmp_path / FOLDER}"):
        find_set(TASK, tmp_path, "auto")


def test_no_data_say_where_to_get_them(tmp_path):
    with refuses(f"`zoo dataset generate {TASK.name}`, or download it with"):
        find_set(TASK, tmp_path)


# -- generation with OCBench's oracles ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("ocbench")
def test_its_actions_played_back_give_its_observations_and_rewards():
    episode = OracleWriter(TASK.name, seed=0).collect("train", 0)
    env = make_env(TASK.name)
    words = np.random.SeedSequence(0, spawn_key=(0, 0, 0)).generate_state(5)
    first, _ = env.reset(seed=int(words[4]))
    steps = [env.step(action) for action in episode["actions"]]
    observations, rewards, terminated, truncated, infos = zip(*steps, strict=True)
    assert_array_equal(episode["observations"], np.array([first, *observations], np.float32))
    assert_array_equal(episode["rewards"], rewards)
    assert_array_equal(episode["masks"] == 0, terminated)
    assert_array_equal(episode["terminals"], np.logical_or(terminated, truncated))
    assert infos[-1]["success"] == episode["rewards"].sum() == 1


@pytest.mark.slow
def test_ocbench_reads_the_files(ocbench, tmp_path):
    files = generated_files(TASK.name, tmp_path)
    generate_dataset(TASK.name, tmp_path, num_episodes=2, num_workers=1)
    reference = ocbench.load_dataset(files[0])
    assert len(ocbench.get_episode_offsets(reference)[0]) == 3
    assert_array_equal(read(files[0])["observations"], reference["observations"])
