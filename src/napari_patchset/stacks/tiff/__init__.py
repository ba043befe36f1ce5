"""TIFF files, read through tifffile.

`structure` checks the directories of a file, `ome` the OME-XML that names the files of a set, and
`series` groups the pages. `image` describes a series without its pixels: `metadata` reads channels
and pixel size, `pages` where the pixels lie. `decoding` reads them, and `stack` cuts patches.
"""
