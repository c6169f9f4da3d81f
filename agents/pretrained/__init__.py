"""A policy that has seen other networks: trained on a pool of small ones, it plays on any."""
