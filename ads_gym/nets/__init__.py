"""Networks: the supernet, the sparse network of an architecture, what they cost, how they are trained."""
