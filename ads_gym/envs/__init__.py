"""The environment, single and vectorised: episodes, observations, rendering."""
