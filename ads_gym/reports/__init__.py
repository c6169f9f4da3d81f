"""Reports: one HTML page about a run."""
