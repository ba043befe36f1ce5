"""The split into training, validation and test patches, none of which share a pixel.

A `split` keeps what belongs together in one part: files, scenes that overlap (`sites`), or what is
equal in a column of the samples sheet (`sheet_columns`). `search` tries ways to group the patches,
and `groups` assigns the groups to parts.
"""
