"""What libraries say that is no news to a person: each silenced where it comes from, and nothing else."""

import logging
import warnings


def quiet_libraries() -> None:
    """Let Lightning speak of what is wrong and not of itself, and hide warnings that only its authors can act on."""
    # At INFO Lightning lists absent devices, advertises its products and repeats what the run's own console says.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 builds a pytree leaf in a way that torch has deprecated; it does so on each fit.
    warnings.filterwarnings(
        "ignore",
        message=r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        category=FutureWarning,
        module="lightning",
    )
    # The training curve has a point at the end of each epoch, however few steps that has.
    warnings.filterwarnings(
        "ignore", message=r"The number of training batches \(\d+\) is smaller than the logging interval"
    )
    # On a cluster's front node; where Slurm is not meant, nothing is amiss.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system but is not used")
    # Who takes a callback out of a run that goes on, or lets it monitor something else, has typed that.
    warnings.filterwarnings(
        "ignore", message="Be aware that when using `ckpt_path`, callbacks used to create the checkp"
    )
