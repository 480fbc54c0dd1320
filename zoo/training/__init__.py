"""Runs of a configuration: model, data, loop, logs."""
