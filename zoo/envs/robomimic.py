"""robosuite's environments, configured as when robomimic's demonstrations were recorded.

Sources: the environment's arguments are ``env_args`` in robomimic's files for robosuite 1.5. Sensors, rewards and
episode ends are as in Q-chunking (Li, Zhou and Levine, arXiv 2507.07969, ``envs/robomimic_utils.py`` and ``main.py``).
"""

from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from robosuite.environments.base import REGISTERED_ENVS

from zoo.envs.checks import global_numpy_seed
from zoo.envs.tasks import OBSERVATIONS
from zoo.settings.layers import load_yaml

SENSORS = tuple({"object": "object-state"}.get(name, name) for name in OBSERVATIONS)
SIZE = 256  # width and height of images, in pixels
CAMERA = "agentview"

# The arm is controlled by changes of position and rotation in the world frame. In robomimic's files, three settings
# have the names of earlier versions of robosuite (`control_delta`, `damping`, `damping_limits`); here, they have the
# default values of robosuite 1.5.
_ENV_ARGS = """
robots: [Panda]
controller_configs:
  type: BASIC
  body_parts:
    right:
      type: OSC_POSE
      input_max: 1
      input_min: -1
      output_max: [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]
      output_min: [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5]
      kp: 150
      damping_ratio: 1
      impedance_mode: fixed
      kp_limits: [0, 300]
      damping_ratio_limits: [0, 10]
      position_limits: null
      orientation_limits: null
      uncouple_pos_ori: true
      input_type: delta
      input_ref_frame: world
      interpolation: null
      ramp_ratio: 0.2
      gripper: {type: GRIP}
control_freq: 20
lite_physics: false
reward_shaping: false
use_object_obs: true
use_camera_obs: false
has_renderer: false
has_offscreen_renderer: false
ignore_done: true
"""
ENV_ARGS: dict[str, Any] = load_yaml(_ENV_ARGS, "`env_args`")
"""Arguments of robosuite's environments."""


class RobosuiteEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A robosuite task: the reward is -1, except 0 in the step that achieves the task and ends the episode.

    ``reset`` samples all random numbers of an episode, from its seed.

    :param scene: robosuite's name of the task, e.g. ``"Lift"``.
    :param render_mode: ``"rgb_array"`` to render images, shape (256, 256, 3).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": ENV_ARGS["control_freq"]}  # noqa: RUF012  gymnasium's

    def __init__(self, scene: str, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._renderer: mujoco.Renderer | None = None
        with global_numpy_seed(self._seed()):
            self._scene = REGISTERED_ENVS[scene](**ENV_ARGS)
        low, high = self._scene.action_spec
        self.action_space = spaces.Box(low.astype(np.float32), high.astype(np.float32))
        size = len(_vector(self._scene._get_observations()))
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        with global_numpy_seed(self._seed()):
            self._scene.reset()
        self._close_renderer()  # the renderer shows the previous scene, in which the cube has another size
        # forced update as in robomimic: right after a reset, sensors that depend on other sensors are still 0
        return _vector(self._scene._get_observations(force_update=True)), {"success": 0}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one step of 50 ms."""
        sensors, reward, _, _ = self._scene.step(action)
        is_achieved = bool(reward > 0)
        return (
            _vector(sensors),
            float(reward) - 1,
            is_achieved,
            False,
            {"success": int(is_achieved)},
        )

    def render(self) -> np.ndarray | None:
        """Return an image from the front, shape (256, 256, 3); None without a render mode."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self._scene.sim.model._model, SIZE, SIZE)
        option = mujoco.MjvOption()
        option.geomgroup[0] = 0  # do not render collision shapes
        self._renderer.update_scene(self._scene.sim.data._data, CAMERA, option)
        return self._renderer.render()

    def close(self) -> None:
        """Free the simulation and its renderer."""
        self._close_renderer()
        self._scene.close()

    def _seed(self) -> int:
        return int(self.np_random.integers(2**32))

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _vector(sensors: dict[str, np.ndarray]) -> np.ndarray:
    """Return the sensors' readings as an observation, (O,)."""
    return np.concatenate([sensors[name] for name in SENSORS], dtype=np.float32)
