"""Agents that play DenseNetSparsify-v0. Imported as `ads_gym.agents`; one algorithm, one file."""
