"""Jobs of a sweep that follow each other in one process: each finds it as the first one did."""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put back what a job changes in its process and libraries leave so, and free the memory that it took.

    Environment variables; signal handlers (torch's launcher of ranks keeps its own, and Ctrl-C between two jobs would
    be taken for a fault of the next); cuDNN's choice of kernels.
    """
    import torch  # it takes seconds: not before there is a job to run

    environment = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread do it
            for number, handler in handlers.items():
                if handler is not None:  # None is a handler that isn't Python's
                    signal.signal(number, handler)
        torch.backends.cudnn.benchmark = benchmark
        gc.collect()  # module, trainer and optimizer hold each other
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # ranks of the next job are other processes, on the same device
