"""Fragile libraries in processes of their own: what kills, hangs or starves them costs no more.

libCZI decodes a CZI's JPEG XR and composes its pyramid; others decode a TIFF's JPEG XR, PNG
and lossless JPEG. No check of headers foresees what damaged data do to these. All others are
decoded in this process and pay nothing.
"""
