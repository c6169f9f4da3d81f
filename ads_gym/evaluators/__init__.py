"""Evaluators: they compute the metrics of masks."""
