"""Lazy arrays: napari slices them, threads read the pixels, and the window never waits."""
