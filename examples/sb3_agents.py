"""Stable-Baselines3's PPO and sb3-contrib's RecurrentPPO as agents: a function of a few lines each.

    python examples/sb3_agents.py
    ads-gym search --agent examples.sb3_agents:ppo
    ads-gym search --agent examples.sb3_agents:recurrent_ppo

Their defaults are made for long episodes with a reward at every step. Here it comes with the last of E decisions, so
gae_lambda and gamma are 1 (at gae_lambda 0.95 a tenth of the credit is left after 45 steps, nothing after 198; a
discount would change what is optimal), and a rollout is 8 whole episodes. RecurrentPPO needs: pip install sb3-contrib
"""

from typing import Any

import ads_gym

EPISODES = 8  # in a rollout
MAX_STEPS = 10**9  # the budget ends the run: `learn` raises BudgetExhausted, which `search` catches


def settings(env: Any, seed: int) -> dict[str, Any]:
    """Return keywords for SB3's on-policy algorithms, with rollouts of whole episodes."""
    steps = EPISODES * env.unwrapped.topology.size
    return {
        "n_steps": steps,
        "batch_size": steps,
        "n_epochs": 4,
        "learning_rate": 3e-3,
        "gamma": 1.0,
        "gae_lambda": 1.0,
        "seed": seed,
        "device": "cpu",
    }


def ppo(env: Any, seed: int) -> None:
    """PPO with two hidden layers on the flat observation."""
    from stable_baselines3 import PPO

    PPO("MlpPolicy", env, **settings(env, seed)).learn(MAX_STEPS)


def recurrent_ppo(env: Any, seed: int) -> None:
    """PPO with an LSTM on the flat observation."""
    from sb3_contrib import RecurrentPPO

    policy = {"lstm_hidden_size": 32, "net_arch": [32]}
    RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=policy, **settings(env, seed)).learn(MAX_STEPS)


for agent in (ppo, recurrent_ppo):
    agent.observation = "flat"  # type: ignore[attr-defined]


if __name__ == "__main__":
    for agent in (ppo, recurrent_ppo):
        result = ads_gym.search("planted-45", agent, evaluations=64)
        print(f"{agent.__name__}, best of {result.evaluations}:")
        for line in result.table:
            print(f"  {line.name:<7} objective {line.objective:.3f}  agreement {line.accuracy:.3f}")
