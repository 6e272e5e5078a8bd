"""How often something that takes time may be done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_GUESS = 0.3  # seconds of a set of pictures


class Allowance:
    """Lets something be done as long as all of it takes no more than a share of the time since `start`."""

    def __init__(self, share: float) -> None:
        self.share = share
        self._began = self._spent = self._last = 0.0

    def start(self) -> None:
        """Count the time from here."""
        self._began, self._spent = time.monotonic(), 0.0

    @property
    def allows(self) -> bool:
        """Whether it may be done now: once more, as long as it took the last time; the first time is a guess."""
        expected = self._last or _GUESS
        return self._spent + expected <= self.share * (time.monotonic() - self._began)

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Take the time of what is done within."""
        began = time.monotonic()
        yield
        self._last = time.monotonic() - began
        self._spent += self._last
