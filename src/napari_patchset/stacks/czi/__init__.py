"""CZI files: structure, geometry, pixels and metadata."""
