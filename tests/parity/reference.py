"""Comparison with reference implementations: translates their names into this library's."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

import agents
from agents.common.batch import Batch
from agents.common.nets.networks import NoisePredictor
from agents.common.sb3.model import FlowAlgorithm
from tests.envs import SpacesEnv
from tests.parity.fixture import Fixture, find_fixtures

OWN_FIXTURES = Path(__file__).parent / "fixtures"

SETTINGS = {
    "tau": "tau",  # QAM's paper calls another setting `tau`
    "inv_temp": "inverse_temperature",
    "num_qs": "ensemble_size",
    "ensemble_ct": "ensemble_size",
    "denoise_steps": "flow_steps",
    "num_flow_steps": "flow_steps",
    "min_reward": "reward_min",
    "max_reward": "reward_max",
    "ema": "policy_tau",
    "layer_norm": "critic_layer_norm",
    "const_std": "sample_std",  # standard deviation of the noise with which actions are recorded
}
"""The reference's settings -> ours, for names that differ and are not the `reference` of a declaration."""
VALUES = {
    "rho": {"mean": 0.0, "min": 1.0},  # pessimism with two critics
    "sampler": {True: "ddpm_clipped", False: "jump"},
    "target": {"actor": "policy"},
    "rival": {"actor": "policy", "min": "smaller"},
    "policy_tau": {0.999: 0.001},
    "sample_std": {True: 1.0},
}
"""Our settings -> the reference's values -> ours, for values that differ."""
UNUSED = {
    "agent_name",
    "residual",  # false in every fixture
    "ob_dims",
    "action_dim",
    "ac_action_dim",
    "actor_hidden_dims",
    "value_hidden_dims",  # they are combined in `net_arch`
    "fql_alpha",
    "edit_scale",
    "edit_target_entropy",
    "inv_temp",
    "noisy_coef",
    "isd_clip",
    "mode",
    "edit_target_entropy_multiplier",
    "target_entropy_multiplier",
    "actor_loss_type",
    "actor_objective",
    "critic_objective",
    "clip_sampler",
    "beta_schedule",
    "time_dim",
    "init_temp",  # 1, the temperature at the start
    "use_target_critic_grad",  # this and the next two are true, as in all of the authors' commands
    "use_target_latent",
    "target_guidance",
    "actor_fc_scale",
    "q_agg",
    "q_agg_actor",
    "drift_batch_size",
    "drift_eps",
    "separate",  # never used by the reference
    "bc_only",  # our `pretraining_steps`, a phase of a run instead of another agent
    "h",  # also recorded as `horizon_length`
}
"""Recorded entries that are not settings of the algorithm, or that the reference does not use."""
MODULES = {
    "qam_f": {"one_step_actor": "one_step"},
    "qam_e": {"edit_actor": "edit", "edit_alpha": "temperature"},
    "fawac": {"actor": "flow"},
    "ifql": {"actor_flow": "behaviour"},
    "cgql": {"actor": "behaviour"},
    "cgql_mse": {"actor": "behaviour"},
    "cgql_linex": {"actor": "behaviour"},
    "qsm": {"actor": "denoiser"},
    "dac": {"actor": "denoiser"},
    "dsrl": {"z_critic": "latent_critic", "actor": "latent_policy", "alpha": "temperature"},
    "fedit": {"edit_actor": "edit", "alpha": "temperature"},
    "fbrac": {"actor_flow": "flow"},
    "rlpd": {"alpha": "temperature"},
    "meanflowql": {"actor_bc_flow": "policy"},
    "gfp": {"vabc": "behaviour", "actor": "one_step"},
    "value_flows": {"critic_flow": "critic", "actor_flow": "behaviour"},
    "fan": {"critic": "noise_critic", "critic_z": "critic"},
    "qgf": {"policy": "behaviour"},
    "driftql": {"actor_bc_drift": "policy"},
    "idql": {"score_model": "denoiser"},
    "rql": {"value": "critic", "actor": "flow"},
}
"""The reference's modules -> ours, for names that differ and are not shared by several algorithms."""
SHARED_MODULES = {
    "actor_slow": "behaviour",
    "actor_fast": "fine_tuned",
    "actor_bc_flow": "behaviour",
    "actor_onestep_flow": "one_step",
}
LOSSES = {"alpha": "temperature"}  # the reference's names of losses -> ours, if they differ
# losses that the reference records after multiplying them by their weights
WEIGHTED = {
    ("rebrac", "bc"),
    ("rlpd", "bc"),
    ("iql", "td"),
}
DIAGNOSTICS = {"path_kl"}  # recorded beside the losses, logged without `_loss`
# recorded intermediates -> entries of our `targets`
INTERMEDIATES = {
    "td_next_action": "next_actions",
    "td_target": "td",
    "am_xs": "states",
    "am_adjs": "adjoints",
    "am_v_base": "prior_velocities",
    "value_target": "value",
    "partial_action": "partial",
    "partial_time": "time",
}


TOLERANCES = {"cgql_linex": {"gradient": 1e-4, "gradient_norm": 1e-4, "adam": 1e-4}}
"""Larger tolerances for algorithms with larger float32 errors: linex exponentiates a difference of Q-values."""


@dataclass(frozen=True)
class Agent:
    """One of our models, with the fixture that names its settings and parameters."""

    model: FlowAlgorithm
    fixture: Fixture

    def parameters(self):
        """Yield (reference path, our parameter)."""
        for path in self.fixture.parameters:
            module, _, below = path.partition("/")
            online_module = module.removeprefix("target_")
            name = {**SHARED_MODULES, **MODULES.get(self.fixture.id, {})}.get(
                online_module, online_module
            )
            name += "_target" if module.startswith("target_") else ""
            yield path, find_parameter(self.model.policy.nets[name], below)

    def as_recorded(self, tensors):
        """Return tensors by reference path, in the reference's shapes, without replica axes."""
        shapes = {path: array.shape for path, array in self.fixture.parameters.items()}
        return {path: t.reshape(shapes[path]) for path, t in tensors.items() if t is not None}

    def multiplier(self):
        """Yield (reference name, our value) of a trust region's state, if there is one."""
        for recorded, name in (("lam", "value"), ("kl_ema", "kl_average")):
            if f"dual_before/{recorded}" in self.fixture:
                yield recorded, self.model.policy.nets.multiplier.get_buffer(name)

    def tensors(self, arrays):
        """Return recorded arrays as tensors with the seed axis."""
        return {
            name: torch.tensor(array, device=self.model.device).unsqueeze(0)
            for name, array in arrays.items()
        }

    def inputs(self, step=1):
        """Return the recorded batch, reduced to what an update uses, and the noise of update 1, 2 or 3."""
        config, batch = self.fixture.config, self.tensors(self.fixture.batch)
        actions = batch["actions"]
        actions = actions.flatten(2) if config["action_chunking"] else actions[:, :, 0]
        reduced = Batch(
            observations=batch["observations"],
            actions=actions,
            rewards=batch["rewards"][:, :, -1],
            discounts=config["discount"] ** config["horizon_length"] * batch["masks"][:, :, -1],
            next_observations=batch["next_observations"][:, :, -1],
            valid=batch["valid"][:, :, -1],
            steps_valid=batch["valid"][:, :, : actions.shape[-1] // self.fixture.sizes["A"]],
        )
        return reduced, self.tensors(self.fixture.noise(step))

    # -- what the checker compares, under the reference's names

    def draws(self, rows):
        table = self.model.method.update_noise()
        return self.model.policy.draw_noise(table, rows, torch.Generator().manual_seed(0))

    def losses(self):
        total, info = self.model.trainer.losses(*self.inputs())
        losses = {"total": total[0]}
        for name in self.fixture.losses.keys() - {"total"}:
            ours = LOSSES.get(name, name)
            losses[name] = info[ours if ours in DIAGNOSTICS else f"{ours}_loss"][0]
            if (self.fixture.id, name) in WEIGHTED:
                losses[name] = losses[name] * self.model.loss_weights()[ours]
        return losses

    def intermediates(self):
        with torch.no_grad():
            targets = self.model.targets(*self.inputs(), self.model.policy.nets, {})
        return {
            recorded: targets[ours][0]
            for recorded, ours in INTERMEDIATES.items()
            if f"out/{recorded}" in self.fixture and ours in targets
        }

    def gradients(self):
        self.model.trainer.losses(*self.inputs())[0].sum().backward()
        return self.as_recorded({path: value.grad for path, value in self.parameters()})

    def update(self, step):
        return self.model.trainer.update_on(*self.inputs(step))["total_loss"][0]

    def state(self):
        squares = {}
        for path, parameter in self.parameters():
            module = path.partition("/")[0]
            # a target network has no optimiser state
            moments = self.model.policy.optimizer.state.get(parameter, {})
            for kind, name in (("m", "exp_avg"), ("v", "exp_avg_sq")):
                if name in moments:
                    key = f"adam/{kind}_norm/{module}"
                    square = float(moments[name].double().square().sum())
                    squares[key] = squares.get(key, 0.0) + square
        norms = {key: square**0.5 for key, square in squares.items()}
        return {**norms, **{f"dual/{name}": value[0] for name, value in self.multiplier()}}

    def sample(self, observations, noise):
        with torch.no_grad():
            inputs = self.tensors({"observations": observations})["observations"]
            return self.model.sample_actions(inputs, self.tensors(noise), self.model.policy.nets)[0]


class OurAgents:
    """Creates the built-in algorithms that are compared with recorded numbers."""

    def __init__(self, device="cpu", compile="off"):
        self.device, self.compile = device, compile

    def create(self, fixture):
        """Return an algorithm with the recorded settings and parameters."""
        env = SpacesEnv(fixture.sizes["obs"], fixture.sizes["A"])
        settings = {"buffer_size": 10, "device": self.device, "compile": self.compile, "seed": 0}
        settings |= our_settings(fixture)
        model = agents.get(fixture.id).algorithm("MlpPolicy", env, **settings)
        agent = Agent(model, fixture)
        with torch.no_grad():
            for path, parameter in agent.parameters():
                parameter.copy_(torch.tensor(fixture.parameters[path]))
            for name, value in agent.multiplier():
                value.copy_(torch.tensor(fixture[f"dual_before/{name}"]))
        return agent


def our_names(id):
    """Return the reference's names -> ours, for an algorithm's settings."""
    declared = agents.get(id).method.declared()
    names = {}
    for name, declaration in declared.items():
        names |= dict.fromkeys([name, *declaration.reference.split(", ")], name)
    return names | {recorded: name for recorded, name in SETTINGS.items() if name in declared}


def our_settings(fixture):
    """Return the recorded settings under our names; a setting without a translation is an error."""
    config = fixture.config
    names = our_names(fixture.id)
    translated = {}
    for key, value in config.items():
        if key in names:
            translated[names[key]] = VALUES.get(names[key], {}).get(value, value)
        elif key not in UNUSED:
            raise KeyError(f"{fixture.id}: {key}")
    translated["net_arch"] = {"pi": config["actor_hidden_dims"], "qf": config["value_hidden_dims"]}
    translated["max_grad_norm"] = fixture.meta["max_grad_norm"]
    return translated


def find_parameter(module, path):
    """Return our parameter for a path below a reference module."""
    parts = path.split("/")
    single = {"log_value": "log_value", "FourierFeatures_0": "frequencies"}.get(parts[0])
    if single is not None:
        return module.get_parameter(single)
    heads = {"mean_net": "mean", "OutputDenseMean": "mean", "OutputDenseLogStd": "log_std"}
    first = "time_mlp" if isinstance(module, NoisePredictor) else "trunk"
    stacks = {
        "value_net": "mlp",
        "mlp": "mlp",
        "MLP_0": first,
        "MLP_1": "mlp",
        "actor_net": "trunk",
        **heads,
    }
    kind, layer = ("Dense", "0") if parts[0] in heads else parts[1].split("_")
    norms = {"scale": "norm_scales", "bias": "norm_biases"}
    names = norms if kind == "LayerNorm" else {"kernel": "weights", "bias": "biases"}
    return getattr(module.get_submodule(stacks[parts[0]]), names[parts[-1]])[int(layer)]


def fixture_paths():
    """Return the files of all fixtures: those in the folder named by PARITY_FIXTURES, and the project's common ones."""
    folder = Path(os.environ.get("PARITY_FIXTURES", OWN_FIXTURES))
    return sorted({*find_fixtures(folder), *find_fixtures(OWN_FIXTURES / "common")})
