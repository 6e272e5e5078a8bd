"""What looks on while a run trains: checkpoints, curves, progress, TensorBoard."""
