"""Zarr stores, with or without OME-Zarr metadata.

`store` reads the nodes of a hierarchy, `ome` the metadata of images, with the units of their axes,
and `scenes` finds the images. `validation` checks arrays and chunk files, `chunks` decodes them,
and `stack` cuts patches.
"""
