"""A flow policy behaves as Stable-Baselines3's users expect of an off-policy algorithm, with unmodified SB3 tools."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import (
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import (
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
)
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stable_baselines3.sac.policies import SACPolicy

import agents
from agents.common.data.buffer import SequenceReplayBuffer
from tests.common.toys import (
    SPACES,
    TINY,
    assert_same,
    assert_same_parameters,
    normals,
    parameters_of,
    refuses,
    reloaded,
    tiny_model,
    toy_dataset,
    warns,
)
from tests.envs import SpacesEnv, space_env_of


def vector(count, episode_length=20):
    return make_vec_env(lambda: SpacesEnv(episode_length=episode_length), n_envs=count)


# -- training ---------------------------------------------------------------------------------------------------------


def trained(**settings):
    """Return a model after four offline and some online updates."""
    model = tiny_model(learning_starts=0, **settings)
    model.learn_offline(4, dataset=toy_dataset())
    return model.learn(8, reset_num_timesteps=False)


def test_a_falling_learning_rate_falls_once_in_each_phase():
    model = trained(learning_rate="lin_0.01")
    (group,) = model.policy.optimizer.param_groups
    model.learn(4, reset_num_timesteps=False)
    assert group["lr"] == pytest.approx(0.0)
    model.learn_offline(0)  # begins a phase
    model.train(1, 16)
    assert group["lr"] == 0.01


def test_a_trained_model_is_pickled_and_goes_on():
    model = trained()
    copied = pickle.loads(pickle.dumps(model))
    for _ in range(2):
        for either in (model, copied):
            either.learn_offline(2)
        assert_same_parameters(copied, model)
        copied.set_parameters(model.get_parameters())  # must not share the optimiser's state


@pytest.mark.parametrize(
    ("train_freq", "gradient_steps", "steps", "updates"),
    [
        ((1, "episode"), 3, 40, 6),
        (4, -1, 32, 24),
    ],
)
def test_updates_follow_train_freq_and_gradient_steps(train_freq, gradient_steps, steps, updates):
    model = tiny_model(train_freq=train_freq, gradient_steps=gradient_steps, learning_starts=10)
    model.learn(steps)
    assert (model.num_timesteps, model._n_updates) == (steps, updates)


def test_a_phase_without_updates_is_warned_of():
    model = tiny_model(learning_starts=10)
    with warns("no update will be performed"):
        tiny_model().learn_offline(2, dataset=toy_dataset()).learn(10)
    with warns("no update will be performed: `learning_starts` is 10"):
        model.learn(10)
    with warnings.catch_warnings(action="error"):
        model.learn(4, reset_num_timesteps=False)
    assert model._n_updates == 4


def test_train_without_learn_takes_what_the_buffer_holds():
    model = tiny_model()
    with refuses("the replay buffer is empty"):
        model.train(3, 16)
    model.load_dataset(toy_dataset())
    model.train(3, 16)
    assert model._n_updates == 3


@pytest.mark.parametrize("noise", [NormalActionNoise, OrnsteinUhlenbeckActionNoise])
def test_action_noise_moves_actions_one_per_environment(tmp_path, noise):
    action_noise = noise(np.zeros(2), 0.5 * np.ones(2))
    silent = tiny_model(env=vector(2), learning_starts=0).learn(2)
    noisy = tiny_model(env=vector(2), learning_starts=0, action_noise=action_noise).learn(2)
    assert len(noisy.action_noise.noises) == 2
    assert not torch.equal(silent.replay_buffer.actions, noisy.replay_buffer.actions)
    assert noisy.replay_buffer.actions.abs().max() <= 1
    reloaded(noisy, tmp_path, vector(3)).learn(3)


@pytest.mark.parametrize(
    ("env", "noise", "named"),
    [
        (lambda: VecNormalize(vector(2)), None, "`VecNormalize`"),
        (lambda: vector(2), NormalActionNoise(np.zeros(2), np.ones(2)), "`action_noise`"),
        (lambda: vector(1), None, "2 replicas need a multiple of 2 environments online, got 1"),
    ],
)
def test_several_seeds_share_no_environment_statistics_or_noise(env, noise, named):
    """In each case, a seed would be trained differently together with other seeds than alone."""
    model = tiny_model(env=env(), action_noise=noise, seeds=[0, 1])
    with refuses(named):
        model.learn(4)
    assert model.num_timesteps == 0


def test_offline_training_needs_statistics_that_are_known_before():
    env = VecNormalize(vector(2))
    model = tiny_model(env=env)
    with refuses("`observation_scale`"):
        model.learn_offline(2, dataset=toy_dataset())
    env.training = False
    model.learn_offline(2, dataset=toy_dataset())
    scaled = tiny_model(env=vector(2), observation_scale=1.0)
    scaled.load_dataset(toy_dataset())
    scaled.set_env(env)
    with refuses("both scale"):
        scaled.learn(4)


def test_trajectories_end_where_training_starts_anew():
    """After an error and at each `learn`, the environment is reset, so the old episode must not continue."""
    model = tiny_model(learning_starts=100)
    with pytest.raises(ZeroDivisionError):  # the eighth step is not stored
        model.learn(9, lambda *_: 1 / (7 - model.replay_buffer.pos))
    model.learn(7, reset_num_timesteps=False)
    model.learn(7)
    assert model.replay_buffer.dones.nonzero().flatten().tolist() == [6, 13]
    assert model.replay_buffer.masks[6]  # not terminated, so the target bootstraps


@pytest.mark.parametrize(
    ("activation", "optimizer"),
    [(torch.nn.Tanh, torch.optim.AdamW), ("Tanh", "AdamW")],
)
def test_policy_arguments_reach_networks_and_optimiser(tmp_path, activation, optimizer):
    arguments = {"net_arch": {"pi": [8], "qf": [12]}, "activation_fn": activation, "n_critics": 4}
    arguments |= {"optimizer_class": optimizer, "optimizer_kwargs": {"weight_decay": 0.5}}
    model = agents.QAM("MlpPolicy", SpacesEnv(), policy_kwargs=arguments, horizon_length=3)
    for restored in (model, reloaded(model, tmp_path), model.replica(0)):
        assert restored.settings()["ensemble_size"] == restored.ensemble_size == 4
        policy = restored.policy
        biases = policy.nets.critic.mlp.biases
        assert [tuple(bias.shape) for bias in biases] == [(1, 4, 12), (1, 4, 1)]
        assert isinstance(policy.optimizer, torch.optim.AdamW)
        assert policy.optimizer.param_groups[0]["weight_decay"] == 0.5
        stacks = [part for part in policy.nets.modules() if hasattr(part, "activation")]
        assert {type(stack.activation) for stack in stacks} == {torch.nn.Tanh}


def test_policies_of_other_kinds_are_refused():
    with refuses("`policy` must be one of"):
        agents.FQL(SACPolicy, SpacesEnv())
    with refuses("`MultiInputPolicy` needs Dict observations, got Box"):
        agents.FQL("MultiInputPolicy", SpacesEnv())
    for policy in ("MlpPolicy", "CnnPolicy"):
        with refuses("Dict observations need `MultiInputPolicy`"):
            agents.FQL(policy, space_env_of(spaces.Dict({"arm": spaces.Box(-1, 1, (2,))})))


@pytest.mark.parametrize("env", [None, SpacesEnv])
def test_what_is_no_environment_is_refused(env):
    with refuses("`env` must be a Gymnasium environment or a VecEnv .*or give", TypeError):
        agents.FQL("MlpPolicy", env)


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"activation_fn": "os.system"}, "got 'os.system'"),
        ({"features_extractor_class": "NatureCNN"}, "features_extractor_class"),
        ({"net_archs": [8]}, "`net_archs` in `policy_kwargs`; allowed are activation_fn"),
    ],
)
def test_what_is_no_class_that_the_policy_can_use_is_refused(kwargs, named):
    with refuses(named, TypeError):
        tiny_model(policy_kwargs=kwargs)


class WinningEnv(SpacesEnv):
    """Succeeds in all episodes or in none."""

    wins = False

    def step(self, action):
        *results, _ = super().step(action)
        return *results, {"is_success": self.wins}


def test_replicas_have_the_success_of_their_own_episodes():
    env = make_vec_env(lambda: WinningEnv(episode_length=2), n_envs=4)
    env.envs[3].unwrapped.wins = True
    model = tiny_model(env=env, seeds=[0, 1], learning_starts=50)
    model.learn(8)
    assert model.replica_values()["rollout/success_rate"].tolist() == [0, 0.5]


# -- saving -----------------------------------------------------------------------------------------------------------


def test_parameters_are_got_set_and_saved_of_a_compiled_policy(tmp_path):
    source = tiny_model(seed=0)
    target = tiny_model(seed=1)
    parameters = source.get_parameters()
    target.set_parameters(parameters)
    with refuses("keys `state` and `param_groups`", RuntimeError):
        target.set_parameters({**parameters, "policy.optimizer": {"state": {}}})
    for names, exact_match in (["policy"], True), (["actor"], False):
        with refuses("parameters must be"):
            target.set_parameters(dict.fromkeys(names), exact_match)
    target.set_parameters({"policy": parameters["policy"]}, exact_match=False)
    target.policy = torch.compile(target.policy)
    assert_same(parameters_of(reloaded(target, tmp_path)), parameters_of(source))


def test_replay_buffer_is_saved_loaded_and_extended(tmp_path):
    path = tmp_path / "buffer.pkl"
    model = tiny_model(env=SpacesEnv(episode_length=6))
    model.learn(20).save_replay_buffer(path)
    second = tiny_model(gamma=0.5, balanced_sampling=True)
    second.load_replay_buffer(path)
    old = model.replay_buffer
    new = second.replay_buffer
    assert_same(old.tensors(), new.tensors())
    assert new.gamma == 0.5  # batches follow the model
    assert new.balanced
    infos = [[{"TimeLimit.truncated": bool(value)}] for value in old.dones & old.masks]
    observations = old.observations[: len(old.actions)]
    new.extend(observations, observations, old.actions, old.rewards, old.dones, infos)
    assert new.full
    half = space_env_of(model.observation_space, spaces.Box(-0.5, 0.5, (2,), np.float32))
    for settings in ({"seeds": [1, 2]}, {"env": half}):
        with refuses(r"buffer\.pkl is the replay buffer of a model with"):
            tiny_model(**settings).load_replay_buffer(path)


# -- SB3's tools ------------------------------------------------------------------------------------------------------


def test_sb3s_callbacks_run_in_both_phases(tmp_path):
    model = tiny_model(learning_starts=2)
    evaluation = EvalCallback(
        vector(2, 5),
        eval_freq=10,
        n_eval_episodes=2,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    saving = CheckpointCallback(15, str(tmp_path / "saved"), save_replay_buffer=True)
    callbacks = [evaluation, saving]
    model.learn_offline(30, callbacks, dataset=toy_dataset())
    model.learn(20, callbacks, reset_num_timesteps=False)
    with np.load(tmp_path / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [10, 20, 30, 40, 50]
        assert (evaluations["results"] == -5).all()
    model.load_replay_buffer(tmp_path / "saved" / "rl_model_replay_buffer_45_steps.pkl")
    names = {path.name for path in (tmp_path / "saved").glob("*.zip")}
    assert names == {f"rl_model_{step}_steps.zip" for step in (15, 30, 45)}
    assert agents.QAM.load(tmp_path / "best_model", device="cpu").num_timesteps == 10


def test_a_buffer_of_ones_own_draws_rows():
    class Newest(SequenceReplayBuffer):
        def draw_rows(self, shape, generator=None):
            return torch.full((*shape, 1), 7) + torch.arange(self.horizon_length)

    model = tiny_model(replay_buffer_class=Newest)
    model.load_dataset(toy_dataset())
    batch = model.replay_buffer.sample(2)
    assert batch.observations.shape == (2, 4)
    assert (batch.observations == model.replay_buffer.observations[7]).all()


# -- logs and clocks --------------------------------------------------------------------------------------------------


def test_a_loaded_model_goes_on_in_the_newest_folder_of_logs(tmp_path):
    model = agents.QAM("MlpPolicy", SpacesEnv(), tensorboard_log=str(tmp_path / "logs"), **TINY)
    loaded = reloaded(model.learn(2), tmp_path, SpacesEnv())
    loaded.learn(2, reset_num_timesteps=False)
    assert len(list((tmp_path / "logs" / "QAM_1").iterdir())) == 2
    model.learn(2)
    assert sorted(folder.name for folder in (tmp_path / "logs").iterdir()) == ["QAM_1", "QAM_2"]


class OwnArrayEnv(SpacesEnv):
    """Counts steps in one array, and returns this array at every step."""

    observation = np.zeros(4, np.float32)

    def _observe(self):
        self.observation[:] = self.elapsed
        return self.observation


def test_an_environment_that_returns_its_own_array_is_warned_of():
    env = OwnArrayEnv(episode_length=5)
    with warns("let it return copies"):
        tiny_model(env=env, learning_starts=9).learn(12)
    env.observation_space = spaces.Box(0, 5, (4,), int)  # counts may be equal
    with warnings.catch_warnings(action="error"):
        tiny_model(env=env, learning_starts=9).learn(12)


# -- single seeds, and training on data alone -------------------------------------------------------------------------


def test_predicted_values_are_those_of_the_critics():
    env = space_env_of(SPACES[0], spaces.Box(np.float32([0, -4]), np.float32([10, 4])))
    model = tiny_model(env=env)
    observations, chunks = normals(5, 4).numpy(), np.random.default_rng(0).random((5, 3, 2))
    scaled = torch.as_tensor(2 * chunks - 1, dtype=torch.float32).flatten(1)
    expected = model.critic(torch.as_tensor(observations), scaled).mean(0)
    units = chunks * [10, 8] + [0, -4]
    np.testing.assert_allclose(
        model.predict_value(observations, units), expected.detach(), rtol=1e-4, atol=1e-6
    )
    assert model.predict_value(observations[0], units[0]).shape == ()
    assert not model.policy.training  # so dropout is switched off
    with refuses("expected a chunk of 3 actions for each of 5 observations"):
        model.predict_value(observations, units[:, 0])
    several = tiny_model(env=env, seeds=[0, 1])
    assert several.predict_value(observations, units).shape == (2, 5)
    with refuses("2 replicas need a multiple of 2 observations, got 5"):
        several.predict(observations)
    with refuses("no critic"):
        tiny_model("bc").predict_value(observations, units)


@pytest.mark.parametrize("horizon", [1, 3])
def test_an_empty_batch_has_no_actions(horizon):
    env = space_env_of(spaces.MultiDiscrete([3] * 4))
    actions, _ = tiny_model(env=env, horizon_length=horizon).predict(np.zeros((0, 4)))
    assert actions.shape == (0, 2)


def model_without_environment():
    return agents.FQL(
        "MlpPolicy", None, observation_space=SPACES[0], action_space=SPACES[1], **TINY
    )


def test_a_model_is_trained_on_data_alone_from_spaces_or_a_file(tmp_path):
    model = model_without_environment()
    model.learn_offline(2, dataset=toy_dataset())
    model.save(f"{tmp_path}/")  # writes `tmp_path.zip`, as SB3 does
    loaded = agents.load(tmp_path)
    with refuses("has no environment"):
        loaded.learn(2)
    loaded.learn_offline(2, dataset=toy_dataset())
    assert loaded.num_timesteps == 4
    with refuses("without an environment"):
        loaded.learn(2)
    loaded.set_env(SpacesEnv())
    loaded.learn(2)


def test_a_model_of_data_alone_goes_to_an_environment_with_bounds(tmp_path):
    model = tiny_model().learn_offline(2, dataset=toy_dataset())
    bounded = space_env_of(spaces.Box(-10, 10, (4,), np.float32))
    loaded = reloaded(model, tmp_path, bounded)
    loaded.set_env(bounded)
    loaded.learn(12, reset_num_timesteps=False)
    assert loaded.observation_space == model.observation_space
    for space in (spaces.Box(-10, 10, (5,)), spaces.Box(-10, 10, (4,), np.float64)):
        with refuses("Observation spaces do not match"):
            model.set_env(space_env_of(space))
    with refuses("Observation spaces do not match"):
        tiny_model(env=bounded).set_env(SpacesEnv())


def test_the_progress_bar_counts_updates_of_several_environments_once(capsys):
    tiny_model(env=vector(2)).learn_offline(3, dataset=toy_dataset(), progress_bar=True)
    assert "3/3" in capsys.readouterr().out


def test_callbacks_that_watch_episodes_work_offline():
    model = model_without_environment()
    evaluation = EvalCallback(Monitor(SpacesEnv()), eval_freq=2, n_eval_episodes=1, verbose=0)
    callbacks = [StopTrainingOnMaxEpisodes(2), evaluation]
    model.learn_offline(3, callbacks, dataset=toy_dataset())
    assert model.num_timesteps == 3
    assert evaluation.last_mean_reward < 0


def test_model_leaves_environments_that_it_is_given_as_they_are():
    env = Monitor(SpacesEnv())
    inner = env.env
    vectorised = DummyVecEnv([lambda: env])
    for passed_env in (env, vectorised):
        tiny_model(env=passed_env)
        assert env.env is inner
        assert vectorised.envs[0] is env
