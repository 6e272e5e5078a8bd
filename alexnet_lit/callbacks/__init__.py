"""Callbacks and loggers of a run: checkpoints, metrics, progress, curves, TensorBoard."""
