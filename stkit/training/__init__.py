"""Training: one file a trained thing. Needs the `train` extra only for what it says."""
