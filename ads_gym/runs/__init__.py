"""Searches: an agent, a budget, a folder, and what is kept of them."""
