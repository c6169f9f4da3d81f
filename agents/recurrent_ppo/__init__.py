"""PPO with memory and action masks, for any Gymnasium environment of discrete actions."""
