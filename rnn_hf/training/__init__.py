"""Training: options, model setup, the Trainer, checkpoints."""
