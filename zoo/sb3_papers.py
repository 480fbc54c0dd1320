"""Where the algorithms of Stable-Baselines3 and its contrib package are from, for those who import neither."""

SB3 = {
    "sac": ("SAC", "Soft Actor-Critic, Haarnoja et al., arXiv 1801.01290"),
    "td3": ("TD3", "Addressing Function Approximation Error in Actor-Critic Methods, Fujimoto et al., "
            "arXiv 1802.09477"),
    "tqc": ("TQC", "Controlling Overestimation Bias with Truncated Mixture of Continuous Distributional Quantile "
            "Critics, Kuznetsov et al., arXiv 2005.04269"),
    "crossq": ("CrossQ", "CrossQ: Batch Normalization in Deep Reinforcement Learning, Bhatt et al., arXiv 1902.05605"),
}  # fmt: skip
"""id -> published name and paper."""
