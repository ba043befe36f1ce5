"""Between files and layers of napari: what is shown, where it lies, and what a layer stands for."""
