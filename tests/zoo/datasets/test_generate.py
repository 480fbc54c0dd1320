"""Generation: files depend only on the seed, not on processes, and an interrupted generation can be continued."""

import hashlib
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from agents.common.files import digest_of
from agents.common.processor import cpuinfo
from tests import needs_pinned
from tests.zoo.conftest import pretend_cores
from tests.zoo.datasets import writers
from tests.zoo.datasets.conftest import generate_in_process
from tests.zoo.datasets.writers import StoppingWriter
from tests.zoo.outcomes import refuses
from zoo.datasets import files as dataset_paths
from zoo.datasets import generate
from zoo.datasets.files import recorded_sha256
from zoo.datasets.generate import generate_dataset, make_collector
from zoo.datasets.names import DATASETS

MANIPULATION = [
    "cube-single-noisy-v0", "cube-double-play-v0", "cube-octuple-play-v0", "scene-play-v0", "scene-noisy-v0",
    "puzzle-3x3-play-v0", "puzzle-4x6-noisy-v0",
]  # fmt: skip


def make(name, seed, steps):
    return make_collector.__wrapped__(replace(DATASETS[name], steps=steps), seed)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["pointmaze-giant-stitch-v0", *MANIPULATION])
def test_an_episode_depends_on_its_number_only(name):
    state = np.random.get_state()[1].copy()
    player = make(name, seed=5, steps=30)
    player.collect("train", 0)
    arrays = player.collect("train", 2)
    expected = make(name, seed=5, steps=30).collect("train", 2)
    assert list(arrays) == list(expected)
    for key, array in arrays.items():
        assert_array_equal(array, expected[key], err_msg=key)
    assert_array_equal(np.random.get_state()[1], state)


def test_a_cell_far_from_all_others_is_its_own_goal():
    player = make("pointmaze-teleport-stitch-v0", seed=5, steps=60)
    assert sum(player.sample_nearby(cell) == cell for cell in player.cells) == 1


# -- whole datasets ----------------------------------------------------------------------------------------------------


NAME = "pointmaze-medium-stitch-v0"  # 200 transitions per episode


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Start one process, because each takes seconds to start."""
    pretend_cores(monkeypatch, 1)


def digests(files):
    return [digest_of(file) for file in files]


def folder_content(folder):
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Five episodes, generated without interruption in the process of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        generate_in_process(patch)
        return generate_dataset(NAME, tmp_path_factory.mktemp("whole"), dataset_size=1_000)


def test_number_of_processes_does_not_change_a_byte(uninterrupted, tmp_path, monkeypatch):
    pretend_cores(monkeypatch, 2)
    files = generate_dataset(NAME, tmp_path, dataset_size=1_000)
    assert digests(files) == digests(uninterrupted) == [recorded_sha256(file) for file in files]
    names = {f"{file.name}{end}" for file in files for end in ("", ".sha256")}
    assert folder_content(tmp_path) == names


def stop_generation(folder, monkeypatch, **options):
    with monkeypatch.context() as patch:
        patch.setattr(generate, "write_episode", StoppingWriter())
        with pytest.raises(ArithmeticError, match="no more"):
            generate_dataset(NAME, folder, dataset_size=1_000, **options)


@pytest.mark.usefixtures("in_process")
def test_stopped_generation_goes_on_where_it_was(uninterrupted, tmp_path, monkeypatch, capsys):
    stop_generation(tmp_path, monkeypatch, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(generate, "version", lambda package: "another version")
        stop_generation(tmp_path, monkeypatch)
    stop_generation(tmp_path, monkeypatch)
    assert folder_content(tmp_path) == {f"{NAME}.npz.parts"}
    assert len(list(tmp_path.rglob("*-0*.npz"))) == 3 * 3
    # the writer fails after the three missing episodes
    monkeypatch.setattr(generate, "write_episode", StoppingWriter())
    files = generate_dataset(NAME, tmp_path, dataset_size=1_000)
    assert f"generating {NAME}: 6 episodes, 3 done already" in capsys.readouterr().err
    assert digests(files) == digests(uninterrupted)


# For the point maze, 100 episodes were compared with OGBench 1.2.2's: actions, movement and cells per step.
DIGESTS = {"scene-play-v0": "019bab72b816", "pointmaze-medium-navigate-v0": "be82d17dbddd"}


def digest_of_content(path):
    """Return the SHA-256 of the arrays of a file, whatever library compressed it."""
    digest = hashlib.sha256()
    with np.load(path) as arrays:
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
            digest.update(array.data)
    return digest.hexdigest()


@needs_pinned("numpy", "mujoco")
@pytest.mark.skipif("avx2" not in cpuinfo("flags"), reason="needs an x86-64 processor with AVX2")
@pytest.mark.few(2)
@pytest.mark.parametrize(("name", "digest"), DIGESTS.items())
@pytest.mark.parametrize("kernel", ["Nehalem", "Prescott", "Sandybridge"])
def test_data_are_equal_on_every_processor(name, digest, kernel, tmp_path, monkeypatch):
    """With other kernels of NumPy or OpenBLAS, an arm's kinematics would differ in the last bit."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", kernel)
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "X86_V3")
    files = generate_dataset(name, tmp_path, dataset_size=60, episode_steps=60)
    assert digest_of_content(files[0]).startswith(digest)


def test_failure_of_a_process_is_told_and_ends_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "write_episode", writers.fail)
    with pytest.raises(ArithmeticError, match="no physics today"):
        generate_dataset(NAME, tmp_path / "data", dataset_size=10_000)
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("in_process")
def test_an_existing_dataset_is_refused_kept_or_replaced(uninterrupted, tmp_path):
    def make(dataset_size, existing):
        files = generate_dataset(NAME, tmp_path, dataset_size=dataset_size, existing=existing)
        return digests(files)

    first = make(200, "refuse")
    with refuses("exists already; add `--force` to replace it"):
        make(400, "refuse")
    assert make(400, "keep") == first
    assert make(400, "replace")[0] == recorded_sha256(tmp_path / f"{NAME}.npz") != first[0]
    with np.load(tmp_path / f"{NAME}.npz") as smaller, np.load(uninterrupted[0]) as larger:
        assert_array_equal(smaller["actions"], larger["actions"][:402])


@pytest.mark.usefixtures("in_process")
def test_a_small_set_does_not_take_the_place_of_the_official_one(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_paths, "DEFAULT_DATASET_DIR", str(tmp_path))
    small = generate_dataset(NAME, dataset_size=200)[0]
    assert small == tmp_path / "1-episodes-of-200" / f"{NAME}.npz"
    assert [*tmp_path.iterdir()] == [small.parent]


@pytest.mark.parametrize("name", ["antmaze-large-navigate-v0", "cube-quadruple-play-100m-v0"])
def test_what_cannot_be_generated_is_refused(tmp_path, name):
    with refuses(f"{name} cannot be generated"):
        generate_dataset(name, tmp_path)
    assert not any(tmp_path.iterdir())
