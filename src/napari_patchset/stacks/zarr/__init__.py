"""Zarr stores and OME-Zarr: nodes, metadata, scenes and pixels."""
