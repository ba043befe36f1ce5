"""Which image: the file, its scenes on their map, and what the form needs to know of it."""
