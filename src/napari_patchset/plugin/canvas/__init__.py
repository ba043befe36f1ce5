"""The patches on the image: drawn, picked, placed, limited to a region, shown one by one."""
