"""Training reward models: losses on margins, the trainer, and the models that rmbench ships."""
