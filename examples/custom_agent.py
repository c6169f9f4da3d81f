"""An agent as a function that steps the environment: nothing to inherit from or to register.

    python examples/custom_agent.py
    ads-gym search --agent examples.custom_agent:gradient

REINFORCE (Williams 1992) with a running mean as baseline and a logit for each connection. When the budget is spent,
`reset` and `step` raise BudgetExhausted, which `search` catches.
"""

from typing import Any

import numpy as np

import ads_gym


def gradient(env: Any, seed: int, rate: float = 3.0) -> None:
    """Play and learn until the budget is spent."""
    rng = np.random.default_rng(seed)
    logits, baseline = np.zeros(env.unwrapped.topology.size), 0.0
    while True:
        keep = 1 / (1 + np.exp(-logits))
        actions = (rng.random(len(keep)) < keep).astype(np.int64)
        env.reset()
        total = sum(float(env.step(action)[1]) for action in actions)
        logits += rate * (total - baseline) * (actions - keep)
        baseline += 0.1 * (total - baseline)


if __name__ == "__main__":
    result = ads_gym.search("planted-45", gradient, evaluations=512)
    for line in result.table:
        print(f"{line.name:<7} objective {line.objective:.3f}  agreement {line.accuracy:.3f}")
