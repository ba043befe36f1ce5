"""The choice of patches; no pixels, no files.

`strategies` choose candidates (`grid`) in sources: inside of regions (`regions`, as `areas`), where
there are pixels (`coverage`), of some samples and depths (`axis_ranges`), in pixels or micrometres
(`lengths`), at random (`random_streams`), for classes (`class_pixels`). `verdicts` decide which are
exported: by `filters`, by hand and without `duplicates`, and in which of the `splits` each is.
"""
