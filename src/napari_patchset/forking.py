"""What a forked child inherits and can't use: locks, and what lies behind them."""

import os


class ForkAware:
    """Begin anew in a forked child: a lock that another thread held there is never released.

    A subclass makes its locks, and what they guard, in `_reset`, which its `__init__` calls; and
    calls `_mind_fork` before it uses them.
    """

    def _reset(self) -> None:
        self._process = os.getpid()

    def _mind_fork(self) -> None:
        if self._process != os.getpid():
            self._reset()
