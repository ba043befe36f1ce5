"""The form: each part a magicgui container that gives, and takes, one part of a plan."""
