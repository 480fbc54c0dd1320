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
sys.path.append(".")  # ENVIRONMENT may be my_module:Mine-v0, of a file in the current folder
env = gymnasium.make(sys.argv[2])
scores = []
for episode in range(5):
    observation, _ = env.reset(seed=episode)
    chunk, done, total = [], False, 0.0
    while not done:
        if len(chunk) == 0:  # the last chunk is used up
            inputs = {"observations": observation[None].astype(dtype)}
            for name, noise in about["noise"].items():  # standard normal for every algorithm
                inputs[name] = generator.standard_normal((1, *noise["shape"]), dtype=np.float32)
            chunk = session.run(None, inputs)[0][0][: about["execution_horizon"]]
        observation, reward, terminated, truncated, info = env.step(chunk[0])
        chunk, total, done = chunk[1:], total + reward, terminated or truncated
    scores.append(info.get("success", total))  # not every environment reports success
kind = "success" if "success" in info else "return"
print(f"{about['algorithm']}: mean {kind} {np.mean(scores):.2f} in 5 episodes")
