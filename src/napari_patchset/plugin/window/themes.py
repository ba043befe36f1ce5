"""The colours of napari's theme, for what its style does not reach."""

from typing import NamedTuple

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtGui import QColor


class Colors(NamedTuple):
    """Of text, of what is chosen, and of what is wrong; the last is legible on the background."""

    text: QColor
    accent: QColor
    error: QColor


def theme_colors() -> Colors:
    """Give the colours of the theme that a person prefers."""
    theme = get_theme(get_settings().appearance.theme)
    text = QColor(theme.text.as_hex())
    is_dark = text.lightnessF() > 0.5
    error = QColor("#ff8080") if is_dark else QColor("#b00020")
    return Colors(text, QColor(theme.current.as_hex()), error)
