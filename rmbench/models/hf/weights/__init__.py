"""What lies in the files of a checkpoint: tensors, adapters, and weights that no model takes."""
