"""Run folders like those that ``train.py`` writes, created without training."""

import datetime
import json

import numpy as np
import yaml

ENV, CUBE = "scene-play-singletask-task1-v0", "cube-double-play-singletask-task1-v0"
CONFIG = """
format: 1
sparse: true
dataset: {name: scene-play-v0, size: 1000000, fingerprint: "0123456789abcdef"}
settings: {net_arch: [512, 512, 512, 512], gamma: 0.99}
"""


def write_run(
    folder,
    *,
    algo="qam",
    env=ENV,
    seed=0,
    offline=(10, 20, 30),
    online=(),
    episodes=50,
    interval=1000,
    state="done",
    updated="2026-11-01T00:00:00+00:00",
    settings=None,
    has_success=True,
    hours=2.0,
    **config,
):
    """Write a run whose evaluations have the given numbers of successes or, without success, the given mean returns.

    :param interval: steps between two evaluations.
    :param config: further entries of ``config.yml``.
    """
    folder.mkdir(parents=True)
    counts = np.array([*offline, *online])[:, None]
    successes = np.arange(episodes) < counts
    steps = interval * np.arange(1, len(counts) + 1)
    results = {"results": counts + np.linspace(-1, 1, episodes)}
    if has_success:
        results = {"successes": successes, "results": np.where(successes, -10.0, -100.0)}
    np.savez(
        folder / "evaluations.npz",
        timesteps=steps,
        phase=np.repeat([0, 1], [len(offline), len(online)]),
        ep_lengths=np.full(successes.shape, 200),
        episode_seeds=np.tile(np.arange(episodes), (len(counts), 1)),
        **results,
    )
    values = yaml.safe_load(CONFIG) | {
        "algo": algo,
        "env": env,
        "seed": seed,
        "offline_steps": interval * len(offline),
        "online_steps": interval * len(online),
        "eval_episodes": episodes,
        **config,
    }
    values["settings"].update(settings or {})
    values["settings"].setdefault("sparse", values["sparse"])  # twice in the record
    (folder / "config.yml").write_text(yaml.safe_dump(values))
    # no process holds the lock, so with an older status the run would count as dead
    if state == "running":
        updated = datetime.datetime.now(datetime.UTC).isoformat()
    status = {"state": state, "updated": updated, "online_step": 0}
    (folder / "status.json").write_text(json.dumps(status | {"offline_step": int(steps[-1])}))
    logged = np.arange(interval // 2, steps[-1] + 1, interval // 2)
    seconds = 3600 * hours * logged / steps[-1]
    rows = np.stack([logged, seconds, logged / seconds], axis=1)
    header = "time/total_timesteps,time/total_seconds,time/updates_per_s"
    np.savetxt(folder / "progress.csv", rows, delimiter=",", header=header, comments="")
    return folder
