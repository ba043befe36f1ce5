"""A column of widgets that scrolls, in a dock of napari."""

from collections.abc import Sequence

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

WIDTH = 340


class Panel(QScrollArea):
    """Scroll up and down only, and notice when the dock is closed."""

    def fill(self, parts: Sequence[QWidget]) -> None:
        """Put widgets below each other."""
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setSpacing(4)
        for part in parts:
            layout.addWidget(part)
        layout.addStretch()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        bar = self.verticalScrollBar()
        content.setMinimumWidth(WIDTH)
        self.setMinimumWidth(WIDTH + (bar.sizeHint().width() if bar is not None else 0))

    def sizeHint(self) -> QSize:
        """Leave the room to the image."""
        return QSize(WIDTH, 2 * WIDTH)

    def event(self, event: QEvent | None) -> bool:
        """Notice that napari closes the panel: it only takes it out of its dock."""
        moved = event is not None and event.type() == QEvent.Type.ParentChange
        if moved and self.parent() is None:
            self.on_closed()
        return super().event(event)

    def on_closed(self) -> None:
        """Let go of what outlives the panel."""
