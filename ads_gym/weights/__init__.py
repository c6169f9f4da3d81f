"""Package data: the supernet of the task `digits`, its recipe, and the command that made them."""
