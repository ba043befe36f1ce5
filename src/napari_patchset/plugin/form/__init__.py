"""The form: each section a magicgui container that sets, and returns, one part of a plan."""
