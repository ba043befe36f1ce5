"""TIFF files, read through tifffile: directories, OME-XML, series, pages and pixels."""
