"""Evaluators: masks in, metrics out. They wrap each other."""
