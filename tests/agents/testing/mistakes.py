"""Mistakes in an algorithm, each made by one edit of the example in docs/register.md."""

from tests import code_blocks

HOOKS = "    def act(self, observations, noise, nets):"
FLOW = "        flow = nets.flow"
WEIGHT = 'weight = targets["weight"] * batch.valid'

# the text of the example that is replaced, its replacement, the check of the conformance kit that fails, and a regular
# expression that matches the reported reason
MISTAKES = {
    "losses that cannot be compiled": (
        FLOW,
        f"        print(batch.valid.data_ptr())\n{FLOW}",
        "compiled",
        r'the losses cannot be compiled: .*an_agent\.py", line \d+',
    ),
    "forgotten hook": (
        "def noise(self):",
        "def noises(self):",
        "hooks",
        r'WeightedBC\.noise must be defined, and return all noise by name, e\.g\. \{"bc_x0": normal',
    ),
    "module instead of a declaration": (
        "velocity_field()}",
        "agents.models.torch.nn.Linear(4, 2)}",
        "hooks",
        r"WeightedBC\.networks failed: .* `flow` must be declared by .*`from_module\(make\)`, got Linear",
    ),
    "misspelt draw": (
        'flow, noise["bc_x0"]',
        'flow, noise["bc_z0"]',
        "hooks",
        r"WeightedBC\.losses failed: KeyError: 'bc_z0'",
    ),
    "gradient that is no number": (
        'targets["td"], batch.valid),',
        'targets["td"], batch.valid) + (0 * q).square().mean((1, 2)).sqrt(),',
        "hooks",
        r"WeightedBC\.losses gives a gradient of `critic\.\S*` with NaN",
    ),
    "moving average that is not declared": (
        "critic(target=True)",
        "critic(target=False)",
        "hooks",
        r"'critic_target'; declare that network with `target=True`",
    ),
    "moving average that is not used": (
        "nets.critic_target(batch.next",
        "nets.critic(batch.next",
        "networks",
        r"nothing depends on `nets\.critic_target`; use it, e\.g\. in the TD target, .* with `target=False`",
    ),
    "loss returning a scalar": (
        'targets["td"], batch.valid),',
        'targets["td"], batch.valid).mean(),',
        "hooks",
        r"WeightedBC\.losses must give loss `td` of shape \(2,\) here, .*one number per replica: take the "
        r"mean over all axes but the first; got \(\)",
    ),
    "losses that are not a dict": (
        FLOW,
        f"        return q.mean((1, 2)), info\n{FLOW}",
        "hooks",
        r"WeightedBC\.losses must return a dict of tensors by name, got tuple",
    ),
    "loss without a gradient": (
        '        return {\n            "td": td_loss(q,',
        "        q, flow = q.detach(), nets.frozen.flow.at(batch.observations)\n"
        '        return {\n            "td": td_loss(q,',
        "hooks",
        r"losses with a gradient, got none",
    ),
    "target that is no tensor": (
        '"weight": (self',
        '"scale": 2.0, "weight": (self',
        "hooks",
        "must give target `scale` as a tensor; got float",
    ),
    "diagnostic of another shape": (
        WEIGHT,
        f'info["mine"] = batch.rewards\n        {WEIGHT}',
        "hooks",
        r"must give `info\['mine'\]` .* \(2, 7\)",
    ),
    "diagnostic of another shape after an update": (
        HOOKS,
        f'    def after_update(self, nets, info):\n        info["mine"] = info["td_loss"].mean()\n\n{HOOKS}',
        "hooks",
        r"after_update must give `info\['mine'\]` .* \(\)",
    ),
    "a loss that is infinite for actions at a bound": (
        'targets["td"], batch.valid),',
        'targets["td"], batch.valid) + batch.actions.atanh().square().mean((1, 2)),',
        "hooks",
        r"losses gives loss `td` with NaN or infinity, .* actions in \[-1, 1\]",
    ),
    "actions of another shape": (
        ".clamp(-1, 1)",
        ".clamp(-1, 1)[..., :-1]",
        "hooks",
        r"act must give actions of shape \(2, 7, 10\) here, .*got \(2, 7, 9\)",
    ),
    "weight of an unknown loss": (
        HOOKS,
        f'    def loss_weights(self):\n        return {{"td_": 3.0}}\n\n{HOOKS}',
        "hooks",
        r"loss_weights names an unknown loss `td_`; closest: td",
    ),
    "batch of another replica": (
        f"{FLOW}.at(batch.observations)",
        f"{FLOW}.at(batch.observations.flip(0))",
        "replicas",
        r"`bc` of one seed depends on another's batch, .*; reduce every axis but the first",
    ),
    "mean over replicas": (
        'noise["bc_x0"]',
        'noise["bc_x0"] - noise["bc_x0"].mean()',
        "replicas",
        r"`bc` of one seed",
    ),
    "mean over replicas after an update": (
        HOOKS,
        "    def after_update(self, nets, info):\n"
        f"        next(nets.flow.parameters()).data += info['td_loss'].mean()\n\n{HOOKS}",
        "replicas",
        r"`flow\.\S*` of one seed depends on another's .* or logged values",
    ),
    "in-place change": (
        WEIGHT,
        'weight = targets["weight"].mul_(batch.valid)',
        "purity",
        r'an update changes `targets\["weight"\]` in place; make a new tensor',
    ),
    "in-place change of `.data`": (
        WEIGHT,
        f"next(nets.critic.parameters()).data.mul_(0.9)\n        {WEIGHT}",
        "purity",
        r"an update changes `nets\.critic\S*` in place; make a new tensor",
    ),
    "state in an attribute": (
        "    def losses",
        "    n = 0\n    def after_update(self, nets, info):\n        self.n += 1\n    def losses",
        "purity",
        r"a hook changes `self\.n`, a int that is neither trained nor saved; .* keep state in a network's buffer",
    ),
    "own randn": (
        'flow, noise["bc_x0"]',
        "flow, batch.actions.new_empty(batch.actions.shape).normal_()",
        "noise",
        r"`losses`.* samples random numbers itself; declare them in `noise`.*\(an_agent\.py:\d+\)",
    ),
    "own randn in `score`": (
        HOOKS,
        "    def score(self, observations, actions, nets):\n"
        f"        return actions[..., 0].clone().normal_()\n\n{HOOKS}",
        "noise",
        r"`targets`, or a method that it calls, samples random numbers itself",
    ),
    "gradient into the critic": (
        '            "bc": flow_matching_loss',
        '            "climb": -nets.critic(batch.observations, flow(noise["bc_x0"], 0.0)).mean((1, 2)),\n'
        '            "bc": flow_matching_loss',
        "gradients",
        r"loss `climb` trains `critic` and `flow`; use `nets\.frozen` for networks that this loss "
        r"must not train, e\.g\. `nets\.frozen\.critic\(\.\.\.\)`",
    ),
    "unregistered network": (
        "    def networks(self):\n",
        "    def networks(self):\n        import torch\n\n        self.extra = torch.nn.Linear(4, 1)\n",
        "networks",
        r"`self\.extra`, a Linear that is neither trained nor saved; declare networks in `networks`",
    ),
    "a draw of actions without rows": (
        HOOKS,
        f'    def action_noise_table(self):\n        return {{"action": normal("D")}}\n\n{HOOKS}',
        "hooks",
        r"action_noise_table must give draw `action` the axis B \(rows\), got 'D'",
    ),
    "actions out of bounds": (
        ".clamp(-1, 1)",
        "",
        "bounds",
        r"`act` returns actions up to [\d.e+]+, expected \[-1, 1\]; .*clamp",
    ),
    "hidden state": (
        FLOW,
        "        self.count = getattr(self, 'count', 0) + 1\n"
        "        noise = {**noise, 'bc_t': noise['bc_t'] / self.count}\n        flow = nets.flow",
        "purity",
        r"`bc` differs when it is computed again",
    ),
    "state that is not saved": (
        HOOKS,
        "    n = 0\n    def after_update(self, nets, info):\n        type(self).n += 1\n\n"
        f"{HOOKS}\n        noise = {{'action': noise['action'] * 0.9**self.n}}",
        "resuming",
        r"differs after resuming from an offline checkpoint; keep state in",
    ),
    "state that loading forgets": (
        HOOKS,
        "    def after_update(self, nets, info):\n        self.seen = getattr(self, 'seen', 0) + 1\n\n"
        f"{HOOKS}\n        noise = {{**noise, 'action': noise['action'] + getattr(self, 'seen', 0)}}",
        "saving",
        r"a loaded model samples other actions than the saved one; `act` may depend only on settings",
    ),
    "numbers too fine for bfloat16": (
        'targets["td"], batch.valid),',
        'targets["td"], batch.valid) * (9 + 9 * (1e5 * q.detach().mean((1, 2))).sin()).exp(),',
        "bf16",
        r"the gradient's norm changes by \S+ of \S+ in bfloat16, expected at most 5%",
    ),
    "no discount": (
        "td_target(batch, next_q, self.rho)",
        "batch.rewards + (batch.discounts > 0) * next_q.mean(1)",
        "values",
        r"`score` gives (0\.[89]|1\.)\d* for rewards of 0 and then 1, with gamma 0\.5, expected 0\.5 \+- 0\.15",
    ),
    "climbing down": (
        "self.beta * (q",
        "-self.beta * (q",
        "actions",
        r"the mean action is -0\.\d+, expected at least 0\.08: the reward is 30 times the action.*; check the sign",
    ),
    "weights drawn otherwise": (
        '        return {"critic"',
        "        import torch\n        from agents.common.nets.specs import Network, NetworkSpec\n\n"
        "        class Odd(Network):\n            def __init__(self, replicas):\n                super().__init__()\n"
        "                self.value = torch.nn.Parameter(torch.randn(replicas, 3))\n\n"
        '        return {"odd": NetworkSpec(lambda n: Odd(n.replicas)), "critic"',
        "replicas",
        r"`odd\.value` of seed \d is not initialised as in a run of that seed alone; .* `initialise\(",
    ),
}


def example():
    """Return the page's example."""
    (code,) = code_blocks("docs/register.md", "python")
    return code


def with_mistake(name):
    """Return the example with one of the mistakes."""
    text, replacement, *_ = MISTAKES[name]
    code = example()
    assert text in code
    return code.replace(text, replacement, 1)
