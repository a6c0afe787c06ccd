"""Training and evaluation: options, model setup, the Trainer, checkpoints, metrics."""
