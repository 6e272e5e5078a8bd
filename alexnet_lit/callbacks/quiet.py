"""Silences what libraries say that no user can act on, and nothing else."""

import logging
import warnings

_IGNORED = (
    # Lightning 2.6 calls a function that torch has deprecated, on each fit.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # The training curve has a point at the end of each epoch, however few steps that has.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # On a cluster's front node, where Slurm is not meant.
    "The `srun` command is available on your system but is not used",
    # Who takes a callback out of a run that goes on, or lets it monitor something else, has typed that.
    "Be aware that when using `ckpt_path`, callbacks used to create the checkp",
)


def quiet_libraries() -> None:
    """Let Lightning warn, but not list absent devices, advertise, or repeat what the run's own console says."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _IGNORED:
        warnings.filterwarnings("ignore", message=message)
