"""Training runs: plan, data, model, loop and logs."""
