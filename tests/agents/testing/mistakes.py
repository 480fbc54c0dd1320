"""Typical mistakes: each is one edit of the example in docs/register.md."""

from typing import NamedTuple

from tests import code_blocks

WEIGHT = 'weight = targets["weight"] * batch.valid'


class Mistake(NamedTuple):
    """An edit and what it is told."""

    before: str  # text of the example
    after: str  # what stands there instead
    check: str  # of the kit that fails
    message: str  # regular expression of what is said
    stops: bool  # whether training is refused, in the same words


MISTAKES = {
    "forgotten hook": Mistake(
        "def noise(self):", "def noises(self):", "hooks",
        r'WeightedBC\.noise must be defined; it returns \{"bc_x0": normal\(\), \.\.\.\}, every random draw', True,
    ),
    "loss returning a scalar": Mistake(
        'targets["td"], batch.valid),', 'targets["td"], batch.valid).mean(),', "hooks",
        r"WeightedBC\.losses must give loss `td` as a tensor of shape \(2,\) here, .*one number per replica: take the "
        r"mean over everything but the first axis; got a tensor of shape \(\)", True,
    ),
    "missing S": Mistake(
        "q.mean(1, keepdim=True)", "q.mean()", "replicas",
        r"of seed \d+ differ by .* from a run of that seed alone; take means over every axis but the first", False,
    ),
    "in-place change": Mistake(
        WEIGHT, 'weight = targets["weight"].mul_(batch.valid)', "purity",
        r'`losses`: \w+\.py:\d+ changes `targets\["weight"\]` in place; make a new tensor', False,
    ),
    "in-place change of `.data`": Mistake(
        WEIGHT, f'next(nets.critic.parameters()).data.mul_(0.9)\n        {WEIGHT}', "purity",
        r"an update changes `nets\.critic\S*` by its `\.data`; make a new tensor", False,
    ),
    "state in an attribute": Mistake(
        "    def losses", "    n = 0\n    def after_update(self, nets, info):\n        self.n += 1\n    def losses",
        "purity",
        r"`after_update` keeps state in `self\.n`, which is lost when a model is saved or resumed", False,
    ),
    "item": Mistake(
        WEIGHT, f"{WEIGHT} / batch.valid.mean().item()", "device",
        r"`losses`: \w+\.py:\d+ waits for the device \(`\.item\(\)`.*\); stay with tensors", False,
    ),
    "own randn": Mistake(
        'flow, noise["bc_x0"]', "flow, batch.actions.new_empty(batch.actions.shape).normal_()", "noise",
        r"`losses`: \w+\.py:\d+ draws random numbers of its own; declare the draw in `noise`", False,
    ),
    "gradient into the critic": Mistake(
        '            "bc": flow_matching_loss',
        '            "climb": -nets.critic(batch.observations, flow(noise["bc_x0"], 0.0)).mean((1, 2)),\n'
        '            "bc": flow_matching_loss', "gradients",
        r"loss `climb` trains `critic`, `flow` at once; take networks that only give a signal from `nets\.frozen`, "
        r"e\.g\. `nets\.frozen\.critic\(\.\.\.\)`", False,
    ),
    "unread setting": Mistake(
        "    def networks(self):", "    actor_learning_rate: float = agents.setting(default=1e-4, above=0)\n\n"
        "    def networks(self):", "settings",
        r"nothing reads the setting `actor_learning_rate`, so it changes nothing; use `self\.actor_", False,
    ),
    "unregistered network": Mistake(
        "    def networks(self):\n",
        "    def networks(self):\n        import torch\n\n        self.extra = torch.nn.Linear(4, 1)\n", "networks",
        r"`self\.extra` is a Linear that is not in `networks`: it is neither trained nor saved.*"
        "declare it in `networks`", False,
    ),
}  # fmt: skip


def example():
    """Return the example of the page."""
    (code,) = code_blocks("docs/register.md", "python")
    return code


def own_network():
    """Return the page's network of one's own."""
    (code,) = code_blocks("docs/register.md", "py\n# my_networks.py")
    return code


def with_mistake(name):
    """Return the example with one mistake."""
    mistake, code = MISTAKES[name], example()
    assert mistake.before in code
    return code.replace(mistake.before, mistake.after, 1)
