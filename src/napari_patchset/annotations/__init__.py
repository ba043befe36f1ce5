"""Annotations: outlines of structures, each with a class, as QuPath draws and exports them."""
