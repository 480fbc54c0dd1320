"""Which algorithms can be trained, and where those of Stable-Baselines3 are from; PyTorch is not imported."""

from agents import registry
from agents.common.validation import unknown_name_message
from zoo.terminal.errors import UsageError

SB3 = {
    "sac": ("SAC", "Soft Actor-Critic, Haarnoja et al., arXiv 1801.01290"),
    "td3": ("TD3", "Addressing Function Approximation Error in Actor-Critic Methods, Fujimoto et al., "
            "arXiv 1802.09477"),
    "tqc": ("TQC", "Controlling Overestimation Bias with Truncated Mixture of Continuous Distributional Quantile "
            "Critics, Kuznetsov et al., arXiv 2005.04269"),
    "crossq": ("CrossQ", "CrossQ: Batch Normalization in Deep Reinforcement Learning, Bhatt et al., arXiv 1902.05605"),
}  # fmt: skip
"""id -> published name and paper."""


def algorithm_ids() -> list[str]:
    """Return the ids of all algorithms that can be trained: those of this zoo, then SB3's."""
    return [*registry.algorithm_ids(), *SB3]


def require_algorithm(id: str) -> None:
    """Refuse an unknown algorithm; the name of a class, ``"module:Class"``, is not looked at.

    :param id: an id or an alias.
    :raises UsageError: for an unknown one; the message names the closest.
    """
    ids = algorithm_ids()
    if ":" not in id and id not in (*ids, *registry.ALIASES):
        message = unknown_name_message("algorithm", id, ids, "zoo agents list")
        raise UsageError(f"{message}; one of your own that is not installed is called module:Class")
