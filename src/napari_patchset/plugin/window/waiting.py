"""Wait for a result without holding up the window."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import ParamSpec, TypeVar

from qtpy.QtCore import QEventLoop, QObject, Signal  # type: ignore[attr-defined]  # qtpy adds it

from napari_patchset.plugin.window.asked import is_window_at_work

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def beside(
    function: Callable[_Args, _Result], *args: _Args.args, **options: _Args.kwargs
) -> _Result:
    """Call a function; where the window would stand still for it, in a thread beside the window.

    The window goes on meanwhile: it may be closed, and whoever calls may be called again. What
    the function raises is raised here. It must touch neither viewer nor widget.
    """
    if not is_window_at_work():
        return function(*args, **options)
    result: Future[_Result] = Future()
    end, loop = _End(), QEventLoop()

    def run() -> None:
        try:
            result.set_result(function(*args, **options))
        except BaseException as error:
            result.set_exception(error)
        end.came.emit()

    end.came.connect(loop.quit)
    thread = Thread(target=run, name="patchset-beside")
    thread.start()
    loop.exec()
    thread.join()  # an application that quits ends every loop
    return result.result()


class _End(QObject):
    """The end of a thread as a signal in the window's own."""

    came = Signal()
