"""Every command of the documentation is valid, and is run at a small size unless a comment gives a reason not to.

The command blocks of a page are run here, in a separate folder. A block is left out if it follows a comment such as
``<!-- not run: needs a cluster -->`` or ``<!-- run by: tests/zoo/test_x.py::test_y -->``.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.docs.commands import FENCE, ROOT, blocks, inline_commands, pages, program_of
from tests.zoo.runs.helpers import write_run
from zoo import compare
from zoo.datasets.generate import generate_dataset
from zoo.datasets.names import parse_env_name

BLOCKS = blocks()
INLINE = set(inline_commands())
COMMANDS = sorted({(block.page, words) for block in BLOCKS for words in block.commands} | INLINE)
FOLDERS = re.compile(r"(agents|benchmarks|docs|hyperparams|results|tests|tools|zoo)/")
SYSTEM = {".", "cd", "curl", "docker", "for", "hf", "pip", "pytest", "tensorboard", "uv", "wandb"}
"""Programs of other projects, whose commands are not checked."""
QUICK = "docs/compare.md"
RUN = sorted(
    {block.page for block in BLOCKS if not block.mark}, key=lambda page: (page != QUICK, page)
)
RUNS = (
    "--offline-steps 4 --eval-episodes 1 --n-eval-envs 1 --dataset-size 1000 --num-threads 1 --device cpu "
    "--env-kwargs max_episode_steps=20 "
    "-params net_arch=[8,8] ensemble_size=2 flow_steps=2 batch_size=8 buffer_size=1000"
)
SMALLER = {
    "zoo.train": f"{RUNS} --eval-freq 4 --online-steps 4",
    "zoo.tune": f"{RUNS.replace('--n-eval-envs 1', '')} --n-trials 1",
    "zoo.compare": "--reps 50",
    "zoo.enjoy": "--episodes 1",
    "zoo.benchmark": "--dry-run",
}
"""Program -> flags added to make its commands quick; later flags win."""


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_each_block_says_its_language_and_each_test_is_there(path):
    assert "" not in FENCE.findall(path.read_text())[::2], (
        "write ```bash for commands, ```text for what is printed"
    )
    tests = re.findall(r"`(tests/[\w./-]+)`", path.read_text())
    assert not [name for name in tests if not (ROOT / name).exists()]
    for name, file in re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", path.read_text()):
        assert f"def {name}(" in (path.parent / file).read_text(), f"{name} in {file}"


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else value[-1]
)
def test_its_program_knows_the_command(page, words):
    assert not complaint(words, is_part=(page, words) in INLINE), f"{page}: {' '.join(words)}"


def complaint(words, is_part):
    """Return the fault of a command, or a false value if it is valid.

    :param is_part: whether the surrounding sentence may continue with the command's arguments.
    """
    named = [word.partition("::")[0] for word in words if FOLDERS.match(word)]
    missing = [name for name in named if not (ROOT / name).exists()]
    if missing:
        return f"{', '.join(missing)} is not there"
    program_and_arguments = program_of(words)
    if program_and_arguments:
        message = refusal(*program_and_arguments)
        return "" if is_part and "required" in message else message
    match words:
        case ["make", target, *_]:
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
            return target not in targets and "the Makefile has no such target"
        case ["python", "-m", module, *_]:
            return not find_spec(module) and f"there is no module {module}"
        case ["python", *_]:  # an example of docs, or a file that is on the page
            return ""
    return words[0] not in SYSTEM and "no such program"


def refusal(program, arguments):
    """Return the error message of a program's parser for arguments; empty if it accepts them."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            program.make_parser().parse_args(arguments)
    except SystemExit:  # also raised for --help, without an error message
        return errors.getvalue()
    return ""


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.mark == "run by"], ids=lambda block: block.page
)
def test_block_that_is_run_elsewhere_names_tests_that_are_there(block):
    for test in block.reason.split(", "):
        file, _, name = test.partition("::")
        assert f"\ndef {name}(" in (ROOT / file).read_text(), test


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Return a folder for datasets."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """Return the current folder of a user who has the repository and some short runs."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    for seed in range(2):
        for algo in ("qam", "fql"):
            folder = tmp_path / f"logs/{algo}/scene-play-singletask-task1-v0_{seed + 1}"
            write_run(folder, algo=algo, seed=seed)
        for env in ("Pendulum-v1", "HalfCheetah-v5"):
            folder = tmp_path / f"logs/sac/{env}_{seed + 1}"
            write_run(folder, algo="sac", env=env, seed=seed, has_success=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("own_agents")
# two episodes may not reach the goal
@pytest.mark.filterwarnings("ignore:no state in:UserWarning")
@pytest.mark.few(1)
@pytest.mark.parametrize("page", RUN)
def test_its_commands_run(page, sandbox, data, monkeypatch):
    monkeypatch.setattr("zoo.report.page.all_figures", lambda *about: {})  # drawing is slow
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for block in BLOCKS:
        for words in block.commands if block.page == page and not block.mark else ():
            if words[0] == "cd":
                os.chdir(words[1])
                continue
            program, arguments = program_of(words)
            arguments = smaller(program.__name__, arguments, data)
            if "--video" in arguments:  # MuJoCo, imported here already, may be unable to render
                subprocess.run([sys.executable, program.__file__, *arguments], check=True)
            else:
                assert program.main(arguments) == 0, words


def smaller(program, arguments, data):
    """Return arguments that make a command quick."""
    words = [*arguments]
    if "--dry-run" not in arguments:  # a dry run gets the page's arguments unchanged
        words += SMALLER.get(program, "").split()
    if program in ("zoo.train", "zoo.tune"):
        prepare(arguments[arguments.index("--env") + 1], data)
        words += ["--dataset-dir", str(data)]
    if program == "zoo.train":
        words = ["--pretraining-steps", "0", *words]
    if program == "zoo.compare" and "--with" in arguments:  # the file that another report wrote
        assert compare.main(["logs/", "-o", "theirs", "--reps", "50"]) == 0
    if program == "zoo.dataset" and arguments[0] == "generate":
        words += f"--dataset-size 1 --dataset-dir {data / 'generated'}".split()
    if program == "zoo.list_agents" and arguments[0] == "check":
        words += ["--skip", "compiled", "bf16", "values", "actions"]
    return words


def prepare(env, data):
    """Generate an environment's dataset in a folder."""
    spec = parse_env_name(env).spec
    if not (data / f"{spec.name}.npz").exists():
        generate_dataset(spec.name, data, dataset_size=2 * spec.steps)
