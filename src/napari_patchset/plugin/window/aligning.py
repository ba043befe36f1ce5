"""Fields below each other begin at one place, however long their labels are."""

from collections import defaultdict
from collections.abc import Sequence

from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

_DEEPEST = 40
"""A label further to the right is not the first of its row."""


def align_labels(columns: Sequence[QWidget]) -> None:
    """Give labels that begin at the same place the width of the widest of them."""
    below_each_other: dict[int, list[QLabel]] = defaultdict(list)
    for column in columns:
        for label in column.findChildren(QLabel):
            left = label.mapTo(column, QPoint(0, 0)).x()
            if left < _DEEPEST and label.isVisibleTo(column) and _is_beside_a_field(label):
                below_each_other[left].append(label)
    for labels in below_each_other.values():
        widest = max(label.sizeHint().width() for label in labels)
        for label in labels:
            label.setMinimumWidth(widest)


def _is_beside_a_field(label: QLabel) -> bool:
    parent = label.parentWidget()
    layout = None if parent is None else parent.layout()
    return isinstance(layout, QHBoxLayout) and layout.count() > 1 and bool(label.text())
