"""Pictures of an image and its patches, in pure NumPy, for the command and the window."""
