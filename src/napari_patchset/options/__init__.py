"""A plan as words: the command's options, the plan that they make, and the way back."""
