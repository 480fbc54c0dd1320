"""From a configuration to a run: model, data, callbacks, logs."""
