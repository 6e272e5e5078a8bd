"""What lies beside what on TensorBoard's page Custom Scalars."""

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # made at import time
from torch.utils.tensorboard.summary import custom_scalars

# A chart has a curve for each tag that matches, of each run that is ticked. TensorBoard matches at the beginning.
CHARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "Is it learning, is it overfitting, which run is better": {
        "accuracy": ("train/acc$", "val/acc$", "test/acc$"),
        "loss": ("train/loss$", "val/loss$", "test/loss$"),
        "best accuracy so far": ("val/acc_best$",),
    },
    "How it trains": {
        "learning rate": ("lr$",),
        "norm of the gradients, before clipping": ("grad_norm$",),
        "images per second": ("images_per_second$",),
    },
}


def layout() -> Summary:
    """The same in each run, as TensorBoard lays the runs' pages on each other."""
    return custom_scalars(
        {title: {name: ("Multiline", list(tags)) for name, tags in charts.items()} for title, charts in CHARTS.items()}
    )
