"""CZI files: structure, scenes, metadata and pixels."""
