"""Files as napari layers, and layers as files."""
