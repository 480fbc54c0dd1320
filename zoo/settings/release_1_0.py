"""The settings that a run of release 1.0 names in its ``config.yml``. Frozen: later releases add nothing here.

Digests of saved scores and of jobs cover these by value. A setting that came later is part of a digest only where its
value is not the default, so the digests of earlier releases stay valid; see `zoo.settings.config.lasting_identity`.
"""

from zoo.settings.layers import load_yaml

ENTRIES = """
    action_range dataset_replace_interval dataset_size eval_at_start eval_episodes eval_freq log_interval
    offline_data offline_steps online_steps pretraining_steps reference_scores reward_from save_freq score
    success_return sparse agent algo dataset departures env env_kwargs eval_env_kwargs eval_seed folders label
    n_envs pretrained_actor profile seed seeds settings sources trained_agent
"""
"""Entries of the file, settings of the run among them."""

SHARED = """
    action_chunking actor_layer_norm balanced_sampling batch_size best_of_n buffer_size compile
    critic_layer_norm encoder ensemble_size flow_steps frame_stack gamma gradient_steps horizon_length
    learning_rate learning_starts max_grad_norm net_arch observation_scale per_network precision
    pretraining_steps random_crop rho shorten_returns sparse tau train_freq
"""
"""Settings of all algorithms but those of Stable-Baselines3."""

OF_ALGORITHM: dict[str, str] = load_yaml(
    """
bam: inverse_temperature kl_scale residual target_behaviour
bc: ""
cgql: guidance_weight inverse_temperature target_behaviour x_term
cgql_linex:
  guidance_weight inverse_temperature linear_continuation linex_clip noisy_weight target_behaviour
  x_term
cgql_mse: guidance_weight inverse_temperature noisy_weight target_behaviour x_term
dac: bc_weight beta_schedule clip_states sampler target_gradient time_features
dsrl: noise_scale target_behaviour target_entropy
fan: anchor_weight critic_anchor_weight expectile
fawac: inverse_temperature max_weight
fbrac: bc_weight
fedit: edit_scale target_entropy
fql: distill_weight
gfp: distill_weight guidance_temperature rival target
ifql: expectile mask_value
meanflowql: adaptive_power bound_weight flow_weight time_steps
qam: clip_adjoint inverse_temperature residual target_behaviour target_gradient
qam_e:
  clip_adjoint edit_scale inverse_temperature residual target_behaviour target_entropy
  target_gradient
qam_f: clip_adjoint distill_weight inverse_temperature residual target_behaviour target_gradient
qgf: expectile gradient guidance_weight mask_cloning
qsm: bc_weight beta_schedule clip_states inverse_temperature sampler target_gradient time_features
rebrac: actor_noise actor_noise_clip bc_weight head_scale policy_delay true_delay
rlpd: bc_weight initial_temperature target_entropy
rql: bc_weight expectile policy_tau
sqam:
  bridge_states freeze_base gap_penalty kl_average_rate kl_budget kl_budget_online kl_clip
  multiplier_learning_rate multiplier_max multiplier_min multiplier_scale target_behaviour
trqam:
  clip_adjoint freeze_base kl_average_rate kl_budget kl_budget_online kl_clip
  multiplier_learning_rate multiplier_max multiplier_min multiplier_scale target_behaviour
  target_gradient
value_flows: bootstrap_weight confidence_temperature consistency_weight reward_max reward_min
""",
    "release 1.0",
)
"""Further settings of each algorithm."""

SB3: dict[str, str] = load_yaml(
    """
sac:
  balanced_sampling batch_size buffer_size ent_coef gamma gradient_steps learning_rate
  learning_starts net_arch noise_std sparse target_entropy target_update_interval tau train_freq
td3:
  balanced_sampling batch_size buffer_size gamma gradient_steps learning_rate learning_starts
  net_arch noise_std policy_delay sparse target_noise_clip target_policy_noise tau train_freq
tqc:
  balanced_sampling batch_size buffer_size ent_coef gamma gradient_steps learning_rate
  learning_starts net_arch noise_std sparse target_entropy target_update_interval tau
  top_quantiles_to_drop_per_net train_freq
crossq:
  balanced_sampling batch_size buffer_size ent_coef gamma gradient_steps learning_rate
  learning_starts net_arch noise_std policy_delay sparse target_entropy train_freq
""",
    "release 1.0",
)
"""All settings of an algorithm of Stable-Baselines3."""


def names_of(algo: str) -> set[str]:
    """Return the names of a run of an algorithm; those that all had for one that is not built in."""
    settings = SB3.get(algo, f"{SHARED} {OF_ALGORITHM.get(algo, '')}").split()
    return {*ENTRIES.split(), *(f"settings.{name}" for name in settings)}
