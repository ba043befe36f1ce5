"""The set as it grows: planned in a folder, measured, selected, written in shards, completed."""
