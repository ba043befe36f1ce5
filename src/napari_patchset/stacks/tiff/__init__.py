"""TIFF files, read through tifffile.

`structure` checks the directories of a file, `ome` the OME-XML that names the files of a set.
`series` describes its images without their pixels: `metadata` reads channels and pixel size,
`pages` where the pixels lie. `stack` reads them.
"""
