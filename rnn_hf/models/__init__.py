"""The model: configuration, layers, heads; all that travels with a saved checkpoint."""
