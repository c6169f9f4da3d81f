"""Agents that search DenseNets: policies and optimisers, one algorithm a file. Imported as `ads_gym.agents`."""
