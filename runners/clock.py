"""A budget of time that long work looks at: it ends from within its progress, and what is done is kept."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stop(BaseException):
    """Ends what is running from within its progress; no ``except Exception`` on the way may keep it."""


class Clock:
    """Watches the budget, and the wish to stop.

    Args:
        budget: seconds from now on.
        stop: asked at every check; True ends the work.
    """

    def __init__(self, budget: float, stop: Callable[[], bool] | None) -> None:
        self.budget, self.start, self.until = budget, time.monotonic(), budget
        self._stop = stop
        self.wished = False

    @property
    def spent(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.start

    @property
    def left(self) -> float:
        """Seconds until ``until``, which may be set to less than the budget."""
        return self.until - self.spent

    def check(self) -> None:
        """Raise :class:`Stop` when time is up or somebody wishes to stop."""
        self.wished = self.wished or bool(self._stop and self._stop())
        if self.wished or self.left <= 0:
            raise Stop
