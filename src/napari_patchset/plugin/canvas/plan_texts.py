"""What the panel tells of a plan, in a box that keeps its place above the buttons."""

from collections.abc import Sequence
from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_patchset.plugin.canvas.summary import summarize
from napari_patchset.plugin.form.fields import TextBox
from napari_patchset.plugin.napari_compat import theme_colors
from napari_patchset.plugin.plan_preview import PlanPreview

_LINES, _PER_LINE = (3, 7), 120
"""The fewest and the most lines of the texts, and the height of a panel for each of them."""


class PlanTexts(TextBox):
    """Notices of what was dropped, the summary of a plan or why there is none, and its plane.

    Parameters
    ----------
    plane : QLabel
        The patches of the plane that is shown.
    """

    def __init__(self, plane: QLabel) -> None:
        notice, summary = QLabel(), QLabel()
        super().__init__([notice, summary, plane], lines=_LINES[0])
        self.notice, self.summary = notice, summary
        notice.setTextFormat(Qt.TextFormat.PlainText)
        notice.hide()

    def fit(self, height: int) -> None:
        """Take the lines that a panel of this height has space for."""
        self.reserve(min(max(height // _PER_LINE, _LINES[0]), _LINES[1]))

    def notify(self, notices: Sequence[str]) -> None:
        """Show what was dropped, above the summary; no notices take the former ones away."""
        self.notice.setText("\n".join(notices))
        self.notice.setVisible(bool(notices))

    def tell(self, text: str, is_error: bool = False) -> None:
        """Show a text, or why there is no plan, in place of the summary."""
        style = f"color: {theme_colors().error.name()}" if is_error else ""
        if style != self.summary.styleSheet():
            self.summary.setStyleSheet(style)
        self.summary.setText(text)

    def sum_up(self, planned: PlanPreview, hidden: Sequence[str], notices: Sequence[str]) -> None:
        """Show the summary of a plan.

        Parameters
        ----------
        hidden : sequence of str
            The channels that are hidden in the viewer, and go into the set.
        notices : sequence of str
            What the form means in this image.
        """
        names = escape(", ".join(hidden))
        lines = [f"Goes into the set, though hidden here: {names}"] if names else []
        self.tell("<br>".join([summarize(planned), *lines, *map(escape, notices)]))
