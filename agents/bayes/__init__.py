"""Bayesian optimisation over masks: a Gaussian process and the masks it asks for next."""
