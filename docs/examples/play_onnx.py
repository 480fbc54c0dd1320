"""Play an exported policy with ONNX Runtime and NumPy alone: python play_onnx.py FILE ENVIRONMENT."""

import json
import sys

import gymnasium
import numpy as np
import ogbench  # noqa: F401  # registers the environments
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
about = json.loads(session.get_modelmeta().custom_metadata_map["flow_rl_zoo"])
dtype = about["observations"]["observations"]["dtype"]  # float32, or uint8 for images
generator = np.random.default_rng(0)
env = gymnasium.make(sys.argv[2])
successes = []
for episode in range(5):
    observation, _ = env.reset(seed=episode)
    chunk, done = [], False
    while not done:
        if len(chunk) == 0:  # the last chunk is used up
            inputs = {"observations": observation[None].astype(dtype)}
            for name, noise in about["noise"].items():  # every algorithm acts with standard normal noise
                inputs[name] = generator.standard_normal((1, *noise["shape"]), dtype=np.float32)
            chunk = session.run(None, inputs)[0][0]
        observation, _, terminated, truncated, info = env.step(chunk[0])
        chunk = chunk[1:]
        done = terminated or truncated
    successes.append(info["success"])
print(f"{about['algorithm']}: success in {sum(successes):.0f} of 5 episodes")
