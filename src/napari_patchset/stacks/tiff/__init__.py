"""TIFF files, read through tifffile.

`structure` checks the directories of a file, `ome` the OME-XML that names the files of a set.
`series` groups the pages into images, `metadata` reads channels and pixel size, `pages` lists where
the pixels lie, `decoding` reads them, and `stack` cuts patches.
"""
