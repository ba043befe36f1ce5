"""The patch set on disk.

`layout` has the names of its files and the layout of its arrays; `writers` has a module for each
format. `manifest` and `table` describe what is in a set and where it was cut from. `reader` opens
a set.
"""
