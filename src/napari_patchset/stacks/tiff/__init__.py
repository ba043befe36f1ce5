"""TIFF through tifffile's pages; `stack.TiffImageStack` is what others need of it."""
