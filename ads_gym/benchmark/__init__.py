"""Comparing agents: what counts, and how sure it is."""
