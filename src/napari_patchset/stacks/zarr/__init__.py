"""Zarr stores: their nodes, OME-Zarr's metadata, and which images they hold."""
