"""The former place of the policy's class, under which models saved by earlier versions name it."""

from agents.common.sb3.policy import FlowPolicy as FlowPolicy
