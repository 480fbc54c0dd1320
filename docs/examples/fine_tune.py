"""Fine-tune a transformer that was cloned in plain PyTorch: python fine_tune.py."""

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv
from torch import nn

import agents

H, A = 4, 2  # actions per chunk, dimensions of an action


class Reach(gymnasium.Env):
    """A point has four steps to reach a goal; the reward is -5 times the final distance."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,))
    action_space = gymnasium.spaces.Box(-1, 1, (A,))

    def reset(self, *, seed=None, options=None):
        """Start at the origin, with a random goal."""
        super().reset(seed=seed)
        self.goal = self.np_random.uniform(-0.6, 0.6, 2).astype(np.float32)
        self.position, self.steps = np.zeros(2, np.float32), 0
        return np.concatenate([self.position, self.goal]), {}

    def step(self, action):
        """Move by a fifth of the action."""
        self.position = (self.position + 0.2 * np.asarray(action, np.float32)).clip(-1, 1)
        self.steps += 1
        is_over = self.steps == H
        distance = float(np.linalg.norm(self.goal - self.position))
        observation, reward = np.concatenate([self.position, self.goal]), -5 * distance * is_over
        return observation, reward, is_over, False, {"is_success": distance < 0.2}


def record(episodes):
    """Return transitions of episodes, about half of which head for a random position instead of the goal."""
    env, generator = SyncVectorEnv([Reach] * episodes), np.random.default_rng(0)
    observations, _ = env.reset(seed=0)
    is_lost = generator.random((episodes, 1)) < 0.5
    places = generator.uniform(-0.6, 0.6, (episodes, 2))
    targets = np.where(is_lost, places, observations[:, 2:])
    steps = []
    for _ in range(H):
        noise = 0.2 * generator.normal(size=(episodes, A))
        actions = ((targets - observations[:, :2]) / 0.2 + noise).clip(-1, 1)
        next_observations, rewards, is_over, _, _ = env.step(actions)
        # episodes end because the task ends, so no value is bootstrapped
        steps.append((observations, actions, rewards, next_observations, is_over, ~is_over))
        observations = next_observations
    names = ("observations", "actions", "rewards", "next_observations", "terminals", "masks")
    # (episodes, H, ...), then one episode after another
    arrays = [np.concatenate(np.stack(arrays, axis=1)) for arrays in zip(*steps, strict=True)]
    return {name: array.astype(np.float32) for name, array in zip(names, arrays, strict=True)}


class Transformer(nn.Module):
    """A velocity in pi0's convention: time 1 is noise, and the velocity points from the action to the noise."""

    def __init__(self, width=32):
        super().__init__()
        self.action, self.context = nn.Linear(A, width), nn.Linear(4 + 1, width)
        self.position = nn.Parameter(0.1 * torch.randn(H, width))
        layer = nn.TransformerEncoderLayer(width, 2, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, A)

    def forward(self, observation, noisy_actions, time):
        """Return velocities (B, H, A) of noisy actions (B, H, A) at times (B,)."""
        context = self.context(torch.cat([observation, time[:, None]], -1)).unsqueeze(1)
        tokens = torch.cat([context, self.action(noisy_actions) + self.position], 1)
        return self.head(self.encoder(tokens)[:, 1:])


def clone(data, updates):
    """Return a transformer that has cloned the data by flow matching, in plain PyTorch."""
    torch.manual_seed(0)
    network = Transformer()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    actions = torch.as_tensor(data["actions"]).view(-1, H, A)  # each episode is a chunk
    observations = torch.as_tensor(data["observations"]).view(-1, H, 4)[:, 0]
    for _ in range(updates):
        rows = torch.randint(len(actions), (128,))
        noise, time = torch.randn(128, H, A), torch.rand(128)
        t = time[:, None, None]
        velocity = network(observations[rows], t * noise + (1 - t) * actions[rows], time)
        optimizer.zero_grad()
        (velocity - (noise - actions[rows])).square().mean().backward()
        optimizer.step()
    return network


def success(model, episodes=200):
    """Return the share of episodes that end at the goal."""
    env, state = SyncVectorEnv([Reach] * episodes), None
    observations, _ = env.reset(seed=100_000)
    for _ in range(H):
        actions, state = model.predict(observations, state=state)
        observations, _, _, _, info = env.step(actions)
    return info["is_success"].mean()


def main():
    """Print the success of the cloned and of the fine-tuned policy; return both."""
    data = record(1_000)
    network = clone(data, updates=500)
    # time 1 is noise, and the network takes chunks of H actions as (B, H, A)
    flow = agents.PretrainedFlow(network, noise_at=1.0, action_shape=(H, A))
    model = agents.QAM(
        "MlpPolicy",
        Reach(),
        behaviour=flow,
        horizon_length=H,
        inverse_temperature=3.0,
        batch_size=128,
        seed=0,
        # smaller and faster than the defaults
        net_arch=[64, 64],
        ensemble_size=2,
        flow_steps=5,
        learning_rate=1e-3,
        tau=0.05,
    )
    cloned = success(model)  # before training, the fine-tuned flow equals the pretrained one
    model.learn_offline(300, dataset=data)
    tuned = success(model)
    print(f"success: cloned {cloned:.2f}, fine-tuned {tuned:.2f}")
    return cloned, tuned


if __name__ == "__main__":
    main()
