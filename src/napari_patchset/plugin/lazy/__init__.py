"""Lazy arrays: napari slices them, threads read what it draws, and the window never waits."""
