"""A sweep: its jobs as its folder tells of them, its summary, and how it goes on where it was left.

Everything is read from the jobs' folders, so it holds whichever process ran a job, and however that process ended.
"""

from alexnet_lit.sweep.clean import undisturbed
from alexnet_lit.sweep.closing import close
from alexnet_lit.sweep.command import Refused, Started, refused, sweep_arguments
from alexnet_lit.sweep.jobs import left_to_run, read_job, worst
from alexnet_lit.sweep.lock import held, let_go
from alexnet_lit.sweep.resume import named_sweep, resume_arguments, set_aside
from alexnet_lit.sweep.summary import update
from alexnet_lit.sweep.workers import at_work, leave_out, stopping, unheed

__all__ = [
    "Refused",
    "Started",
    "at_work",
    "close",
    "held",
    "leave_out",
    "left_to_run",
    "let_go",
    "named_sweep",
    "read_job",
    "refused",
    "resume_arguments",
    "set_aside",
    "stopping",
    "sweep_arguments",
    "undisturbed",
    "unheed",
    "update",
    "worst",
]
