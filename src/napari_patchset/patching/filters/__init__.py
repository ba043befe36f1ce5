"""Filters: which patches are worth training on, by metrics of their pixels.

`patch_filters` has a model for each filter, `syntax` its text, "std[DAPI]>p10". `pixel_metrics`
computes the metrics, which become columns of the table (`measurements`).
"""
