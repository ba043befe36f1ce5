"""Zarr stores, with or without OME-Zarr metadata.

`store` reads the nodes of a hierarchy and `ome` the metadata of an image, with the units of its
axes. `scenes` finds the images, `plate` those of a plate. `validation` checks arrays and chunk
files, `chunks` decodes them, and `stack` cuts patches.
"""
