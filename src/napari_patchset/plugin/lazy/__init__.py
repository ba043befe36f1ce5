"""Pixels that come when they are there: lazy arrays, read in threads, drawn as they arrive."""
