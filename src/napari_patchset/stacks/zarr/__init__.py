"""Zarr stores, with or without OME-Zarr metadata.

`store` reads the nodes of a hierarchy and `ome` the metadata of images and plates, `scenes` finds
the images. `validation` checks arrays and chunk files, `chunks` decodes them, and `stack` cuts
patches. `remote` reads stores by URL, `spool` writes a stack to one.
"""
