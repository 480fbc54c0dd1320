"""What must hold on a GPU before its speed counts: equal numbers, whatever runs an update."""

from __future__ import annotations

import functools
import subprocess
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

import agents
from agents.common.engine import strategies
from agents.common.sb3.model import FlowQLearning
from agents.testing.kit import TOLERANCE
from agents.testing.subject import Violation
from benchmarks import throughput
from benchmarks.gpu_parts.part import Found, Options, Part
from benchmarks.gpu_parts.speed import Setting
from tests.common.toys import parameters_of, tiny_model, toy_dataset
from zoo.processes.serving import available_cores
from zoo.processes.versions import describe_versions, processor

UPDATES, ONLINE_STEPS, ROWS = 12, 24, 16
SMALL_FIXTURES = 3
GPU_FIELDS = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "memory.used")


def correctness_parts() -> list[Part]:
    """Return the parts in the order in which they are run."""
    contracts = [
        Part(
            f"contract {id}",
            "recorded updates equal plain ones",
            functools.partial(check_contract, id),
            seconds=60,
            needs_cuda=True,
        )
        for id in agents.algorithm_ids()
    ]
    recordings = [
        Part(
            f"capture x{seeds}",
            "one launch an update, and no wait",
            functools.partial(check_capture, seeds),
            seconds=60,
            needs_cuda=True,
        )
        for seeds in (1, 12)
    ]
    return [
        *contracts,
        Part("parity", "updates equal the references' recorded numbers", check_parity, seconds=120),
        *recordings,
        Part("host storage", "batches come from page-locked memory", check_host_storage, seconds=60, needs_cuda=True),
        Part(
            "failed recording",
            "updates go on with the same numbers",
            check_failed_recording,
            seconds=60,
            needs_cuda=True,
            spoils=True,
        ),
    ]


# -- where it is measured ---------------------------------------------------------------------------------------------


def describe_environment(options: Options) -> Found:
    """Return device, versions, clocks, and the rate of large matrix products.

    :param options: of the check.
    :raises Violation: if PyTorch finds no GPU.
    """
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    if cuda and not torch.cuda.is_available():
        raise Violation("PyTorch finds no CUDA device; `--device cpu --small` tries the logic without one")
    rates = {
        precision: throughput.matmul_rate(device, precision, 0.05 if options.small else 1.0) / 1e12
        for precision in ("tf32", "bf16")
    }
    name = torch.cuda.get_device_name(device) if cuda else processor() or "cpu"
    return {
        "detail": f"{name}, {rates['tf32']:.3g} TFLOP/s in TF32 and {rates['bf16']:.3g} in bf16",
        **describe_versions(name, None),
        "cores": available_cores(),
        "cuda": torch.version.cuda,
        "matmul_tflop_per_s": rates,
        **(describe_gpu(device) if cuda else {}),
    }


def describe_gpu(device: torch.device) -> dict[str, Any]:
    """Return what the driver says about a GPU; nothing if its program is not there.

    :param device: the GPU.
    """
    properties = torch.cuda.get_device_properties(device)
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        told = subprocess.run(
            [*command, f"--id=GPU-{properties.uuid}"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {"memory_bytes": properties.total_memory}
    fields = dict(zip(GPU_FIELDS, map(str.strip, told.strip().split(",")), strict=True))
    return {"memory_bytes": properties.total_memory, **fields}


# -- recorded updates -------------------------------------------------------------------------------------------------


def check_contract(id: str, options: Options) -> Found:
    """Compare recorded and plain updates of one algorithm: of one seed and of two, offline and online.

    :param id: the algorithm.
    :param options: of the check.
    :raises Violation: if they differ.
    """
    worst = 0.0
    for seeds in ({}, {"seeds": [0, 1], "seed": None}):
        recorded, plain = make_pair(id, options, **seeds)
        for model in (recorded, plain):
            infos = [model.trainer.update(ROWS) for _ in range(UPDATES)]
            require_device(model, infos[-1])
        worst = max(worst, difference(recorded, plain, f"after {UPDATES} updates of {len(seeds) or 1} seed(s)"))
        if not seeds:
            for model in (recorded, plain):
                model.learn(ONLINE_STEPS, reset_num_timesteps=False)
            worst = max(worst, difference(recorded, plain, f"after {ONLINE_STEPS} online steps"))
    exact = "the same bits" if worst == 0 else f"to {worst:.1e}"
    return {"detail": f"one and two seeds, offline and online: {exact}", "largest_difference": worst}


def require_device(model: FlowQLearning, info: Mapping[str, torch.Tensor]) -> None:
    """Check that what an update reports is where the model is, so that nobody waited for it.

    :param model: the algorithm.
    :param info: what its update reports.
    :raises Violation: if something is elsewhere.
    """
    device = next(model.policy.parameters()).device
    for name, value in info.items():
        if value.device != device:
            raise Violation(f"info[{name!r}] is on {value.device}, expected {device}")


def make_pair(id: str, options: Options, **settings: Any) -> tuple[FlowQLearning, FlowQLearning]:
    """Return a model whose updates are recorded and one whose updates are plain, alike in all else.

    :param id: the algorithm.
    :param options: of the check.
    :param settings: over the tiny ones of the tests.
    """
    recorded, plain = (tiny_model(id, device=options.device, compile=wish, **settings) for wish in ("auto", "off"))
    for model in (recorded, plain):
        model.load_dataset(toy_dataset())
    return recorded, plain


def difference(recorded: FlowQLearning, plain: FlowQLearning, when: str) -> float:
    """Return the largest difference of two models' parameters and buffers.

    :param recorded: must have recorded its updates.
    :param plain: the other one.
    :param when: for the message.
    :raises Violation: if it is more than rounding, or nothing was recorded.
    """
    if not recorded.trainer.mode.captured:
        raise Violation(f"updates are {recorded.trainer.mode}, expected captured ones")
    mine, theirs = parameters_of(recorded), parameters_of(plain)
    gaps = {name: float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine}
    for name, gap in gaps.items():
        if not gap <= TOLERANCE:  # NaN is not
            raise Violation(f"`{name}` differs by {gap:.1e} {when}, expected at most {TOLERANCE:g}")
    return max(gaps.values())


def check_capture(seeds: int, options: Options) -> Found:
    """Check that an update of QAM is one graph, and never waits for the device.

    :param seeds: S.
    :param options: of the check.
    :raises Violation: if that does not hold.
    """
    args = throughput.make_parser().parse_args(Setting("qam", seeds, "tf32").words(options))
    model = throughput.make_model(args)
    for _ in range(strategies.WARM_UP + 2):
        model.trainer.update(args.batch)
    if not model.trainer.mode.captured or model.trainer.mode.compiled:
        raise Violation(f"updates are {model.trainer.mode}, expected captured ones without the compiler")
    with never_waiting():
        losses = [model.trainer.update(args.batch)["td_loss"].clone() for _ in range(4)]
    if len({loss.sum().item() for loss in losses}) < len(losses):
        raise Violation("replayed updates repeat their losses, so they draw no new batches")
    host, whole = time_updates(model, args.batch, count=5 if options.small else 200)
    kernels = sum(kernel.count for kernel in throughput.profile_kernels(model, args.batch))
    return {
        "detail": f"{kernels:,} kernels, {1 / whole:.0f} updates/s without the compiler, the host "
        f"busy for {1e6 * host:.0f} us of {1e6 * whole:.0f}",
        "kernels": kernels,
        "updates_per_s": 1 / whole,
        "host_seconds": host,
    }


def time_updates(model: FlowQLearning, batch: int, count: int) -> tuple[float, float]:
    """Return how many seconds an update takes the host to ask for, and the device to do.

    :param model: the algorithm.
    :param batch: B.
    :param count: of updates.
    """
    throughput.wait_for(model.device)
    begin = time.perf_counter()
    for _ in range(count):
        model.trainer.update(batch)
    asked = time.perf_counter() - begin
    throughput.wait_for(model.device)
    return asked / count, (time.perf_counter() - begin) / count


@contextmanager
def never_waiting() -> Iterator[None]:
    """Make whatever waits for the device raise."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def check_host_storage(options: Options) -> Found:
    """Compare recorded and plain updates whose batches come from page-locked memory.

    :param options: of the check.
    :raises Violation: if they differ, or nothing was recorded.
    """
    recorded, plain = make_pair("qam", options, replay_buffer_kwargs={"storage": "host"})
    for model in (recorded, plain):
        for _ in range(UPDATES):
            model.trainer.update(ROWS)
    return {"detail": f"to {difference(recorded, plain, 'with batches from the host'):.1e}"}


def check_failed_recording(options: Options) -> Found:
    """Let a recording fail, by a wait for the device, and compare the updates after it with plain ones.

    :param options: of the check.
    :raises Violation: if they differ, or it did not fail.
    """
    model, plain = make_pair("qam", options)
    draw = model.trainer.draw_noise

    def wait(size: int) -> Any:
        noise = draw(size)
        if torch.cuda.is_current_stream_capturing():
            noise["bc_t"].sum().item()
        return noise

    with warnings.catch_warnings(record=True) as told, patch.object(model.trainer, "draw_noise", wait):
        warnings.simplefilter("always")
        for _ in range(UPDATES):
            model.trainer.update(ROWS)
    reasons = [str(warning.message) for warning in told if "updates are not captured" in str(warning.message)]
    if len(reasons) != 1 or model.trainer.mode.captured:
        raise Violation(f"a recording that waits for the device was said to fail {len(reasons)} times, expected 1")
    if (device := torch.device(options.device)).type == "cuda":
        if torch.cuda.current_stream(device) != torch.cuda.default_stream(device):
            raise Violation("a failed recording left its stream behind")
        torch.rand(1, device=device)  # raises where the default generator still counts as recorded
    for _ in range(UPDATES):
        plain.trainer.update(ROWS)
    mine, theirs = parameters_of(model), parameters_of(plain)
    differing = [name for name in mine if not torch.equal(mine[name], theirs[name])]
    if differing:
        raise Violation(f"`{differing[0]}` differs from plain updates after a failed recording")
    return {"detail": f"the same bits; {reasons[0]}"}


# -- against the references ----------------------------------------------------------------------


def check_parity(options: Options) -> Found:
    """Take the references' recorded updates on the device.

    :param options: of the check.
    :raises Violation: if a number is off; the first of each fixture is named.
    """
    from tests.parity.checker import compare
    from tests.parity.fixture import read_fixture
    from tests.parity.reference import TOLERANCES, OurAgents, fixture_paths

    paths = fixture_paths()
    wrong = []
    for path in paths[:SMALL_FIXTURES] if options.small else paths:
        fixture = read_fixture(path)
        rows = compare(fixture, OurAgents(options.device), TOLERANCES.get(fixture.id)).rows
        first = next((row for row in rows if "update" in row.quantity and not row.holds), None)
        if first is not None:
            wrong.append(f"{path.parent.name}/{path.stem} ({first.quantity}: {first.found})")
    if wrong:
        raise Violation(f"{len(wrong)} of {len(paths)} fixtures differ: {'; '.join(wrong)}")
    tried = min(SMALL_FIXTURES, len(paths)) if options.small else len(paths)
    return {"detail": f"{tried} of {len(paths)} fixtures, three updates each, in float32"}
