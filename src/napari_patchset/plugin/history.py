"""What was done by hand, to be undone and redone one after the other.

An edit knows how to get and set what it changed, and holds the former value; undoing exchanges the
two. So what was changed otherwise in between, as by typing, is not lost either: redoing brings it
back.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import product
from typing import Any, NamedTuple

from napari.viewer import Viewer
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut  # type: ignore[attr-defined]  # qtpy adds it
from qtpy.QtWidgets import QWidget

GONE = None
"""What an edit gets if what it changed is not there any more."""

_MOST = 100


class Edit(NamedTuple):
    """Something that was done by hand.

    Attributes
    ----------
    what : str
        What it was, as the end of "Undone: ".
    get : callable
        Return the value that there is now, `GONE` if it has no place any more.
    set : callable
        Take a value.
    value : object
        The value to exchange for that.
    """

    what: str
    get: Callable[[], Any]
    set: Callable[[Any], object]
    value: Any


class History:
    """The edits that can be undone, and those that can be redone."""

    def __init__(self) -> None:
        self._done: list[Edit] = []
        self._undone: list[Edit] = []

    def record(self, edit: Edit) -> None:
        """Add an edit, with the value from before it."""
        self._done = [*self._done[1 - _MOST :], edit]
        self._undone = []

    def forget(self) -> None:
        """Forget all edits: they were about something else."""
        self._done, self._undone = [], []

    def undo(self) -> str:
        """Undo the last edit, and return what has happened."""
        what = _exchange(self._done, self._undone)
        return f"Undone: {what}" if what else "Nothing to undo"

    def redo(self) -> str:
        """Redo what was undone last, and return what has happened."""
        what = _exchange(self._undone, self._done)
        return f"Redone: {what}" if what else "Nothing to redo"

    def bind_keys(
        self, viewer: Viewer, windows: Sequence[QWidget], tell: Callable[[str], None]
    ) -> Callable[[], None]:
        """Let the keys of undo and redo work over the image and in widgets; return how to end it.

        Text fields, and napari's own layers of labels, have these keys first.
        """
        keys = QKeySequence.StandardKey
        for window, (key, act) in product(
            windows, ((keys.Undo, self.undo), (keys.Redo, self.redo))
        ):
            shortcut = QShortcut(QKeySequence(key), window)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(lambda act=act: tell(act()))
        bound = list[str]()
        for name, act in (("Control-Z", self.undo), ("Control-Shift-Z", self.redo)):
            with suppress(ValueError):  # somebody has bound it already
                viewer.bind_key(name, lambda _, act=act: tell(act()))
                bound.append(name)

        def unbind() -> None:
            for name in bound:
                viewer.bind_key(name, None)

        return unbind


def _exchange(edits: list[Edit], others: list[Edit]) -> str:
    """Exchange the value of the last edit that changes something, and return what it was."""
    while edits:
        edit = edits.pop()
        now = edit.get()
        if now is not GONE and now != edit.value:
            others.append(edit._replace(value=now))
            edit.set(edit.value)
            return edit.what
    return ""
