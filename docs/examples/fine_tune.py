"""Fine-tune a transformer that was cloned in plain PyTorch: python fine_tune.py."""

import gymnasium
import numpy as np
import torch
from torch import nn

import agents

H, A = 4, 2  # actions of a chunk, numbers of an action


class Reach(gymnasium.Env):
    """A point has four steps to reach a goal, and is paid for how near it ends."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,))
    action_space = gymnasium.spaces.Box(-1, 1, (A,))

    def reset(self, *, seed=None, options=None):
        """Begin at the origin, with a random goal."""
        super().reset(seed=seed)
        self.goal = self.np_random.uniform(-0.6, 0.6, 2).astype(np.float32)
        self.place, self.steps = np.zeros(2, np.float32), 0
        return np.concatenate([self.place, self.goal]), {}

    def step(self, action):
        """Walk a fifth of the action."""
        self.place = (self.place + 0.2 * np.asarray(action, np.float32)).clip(-1, 1)
        self.steps += 1
        is_over = self.steps == H
        distance = float(np.linalg.norm(self.goal - self.place))
        observation, reward = np.concatenate([self.place, self.goal]), -5 * distance * is_over
        return observation, reward, is_over, False, {"is_success": distance < 0.2}


def record(episodes):
    """Return transitions of a walker that loses its way in half of the episodes."""
    env, generator = Reach(), np.random.default_rng(0)
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    data = {name: [] for name in names}
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        target = env.goal
        if generator.random() >= 0.5:
            target = generator.uniform(-0.6, 0.6, 2)
        for _ in range(H):
            action = (target - env.place) / 0.2 + 0.2 * generator.normal(size=2)
            action = action.clip(-1, 1).astype(np.float32)
            next_observation, reward, is_over, _, _ = env.step(action)
            values = (observation, action, reward, next_observation, is_over)
            for name, value in zip(names, values, strict=True):
                data[name].append(value)
            observation = next_observation
    data = {name: np.array(values, np.float32) for name, values in data.items()}
    # an episode's end is the task's end: no value follows it
    return data | {"masks": 1 - data["terminals"]}


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
    env, wins = Reach(), 0
    for episode in range(episodes):
        observation, state, is_over = env.reset(seed=100_000 + episode)[0], None, False
        while not is_over:
            action, state = model.predict(observation, state=state)
            observation, _, is_over, _, info = env.step(action)
        wins += info["is_success"]
    return wins / episodes


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
        # smaller and faster than by default
        net_arch=[64, 64],
        ensemble_size=2,
        flow_steps=5,
        learning_rate=1e-3,
        tau=0.05,
    )
    cloned = success(model)  # a fine-tuned flow begins as the pretrained one
    model.learn_offline(300, dataset=data)
    tuned = success(model)
    print(f"success: cloned {cloned:.2f}, fine-tuned {tuned:.2f}")
    return cloned, tuned


if __name__ == "__main__":
    main()
