"""The choice of image and scene, and the map of a file's scenes."""
