"""The choice of patches; no pixels, no files.

`strategies` choose candidates (`grid`) in sources: inside of regions (`regions`, as `areas`), where
there are pixels (`coverage`), of some samples and depths (`axis_ranges`), in pixels or micrometres
(`lengths`), at random (`random_streams`), for classes (`class_pixels`). `verdicts` decide which are
exported: by `filters` (as text, `filter_syntax`), whose `measurements` are columns of metrics
(`pixel_metrics`), without `duplicates`, by hand, and by `splits`, which keep what belongs together
(`groups`, `sites`, `sheet_columns`) in one part, by the best way to group it (`split_search`).
"""
