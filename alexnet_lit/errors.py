"""What tells a person's mistake from a fault of ours."""


class Mistake(ValueError):
    """A person's mistake. Its text is one line that names the key or file, the value, and the way out.

    The command line prints that line and exits non-zero; any other exception is a fault of ours and shows its
    traceback.
    """


class Interrupted(Exception):
    """Training stopped after a finished step as a person or the machine asked for it (Ctrl-C, SIGTERM, SIGUSR1)."""


class Diverged(Exception):
    """The loss is no longer a number, so that further training is pointless."""
