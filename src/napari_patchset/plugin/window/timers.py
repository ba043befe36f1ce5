"""What is done a little later, once however often it is asked for meanwhile."""

from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer


def later(parent: QObject, act: Callable[[], None], wait_ms: int = 0) -> QTimer:
    """Make a timer that does something once, in a later turn of the window's loop; `start` it.

    Parameters
    ----------
    parent : QObject
        Whose destruction ends it: what has no parent is gone before that, when the program ends.
    wait_ms : int
        How much later.
    """
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(wait_ms)
    timer.timeout.connect(act)
    return timer
