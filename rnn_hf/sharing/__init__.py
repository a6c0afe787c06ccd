"""What others get: the record of a run, the model card, the hub."""
