"""Whether a model's rewards are its own: what its config says of long texts, and a probe of each model."""
