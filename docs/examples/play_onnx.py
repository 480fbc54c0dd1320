"""Execute an exported policy in an environment: python play_onnx.py FILE ENVIRONMENT.

OnnxPolicy needs only NumPy and ONNX Runtime; copy it to a robot.
"""

import json
import sys

import numpy as np
import onnxruntime


class OnnxPolicy:
    """A policy for a single observation array, executed chunk by chunk."""

    def __init__(self, file: str, seed: int = 0) -> None:
        self.session = onnxruntime.InferenceSession(file)
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.about = json.loads(metadata["flow_rl_zoo"])
        self.generator = np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        """Drop the remaining actions of the chunk; call this before each episode."""
        self.chunk = []

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Return the next action of the chunk; sample a new chunk after the last one."""
        if len(self.chunk) == 0:
            dtype = self.about["observations"]["observations"]["dtype"]  # uint8 for images
            inputs = {"observations": observation[None].astype(dtype)}
            for name, noise in self.about["noise"].items():  # noise is always standard normal
                shape = (1, *noise["shape"])
                inputs[name] = self.generator.standard_normal(shape, dtype=np.float32)
            self.chunk = self.session.run(None, inputs)[0][0][: self.about["execution_horizon"]]
        action, self.chunk = self.chunk[0], self.chunk[1:]
        return action


if __name__ == "__main__":
    import gymnasium
    import ogbench  # noqa: F401  # registers the environments

    sys.path.append(".")  # ENVIRONMENT may be my_module:Mine-v0, from the current folder
    policy = OnnxPolicy(sys.argv[1])
    env = gymnasium.make(sys.argv[2])
    scores = []
    for episode in range(5):
        np.random.seed(episode)  # OGBench's mazes sample the start from NumPy's global generator
        observation, _ = env.reset(seed=episode)
        policy.reset()
        done, total = False, 0.0
        while not done:
            observation, reward, terminated, truncated, info = env.step(policy.act(observation))
            total, done = total + reward, terminated or truncated
        scores.append(info.get("success", total))  # not every environment reports success
    kind = "success" if "success" in info else "return"
    print(f"{policy.about['algorithm']}: mean {kind} {np.mean(scores):.2f} in 5 episodes")
