"""PPO in one file, in the manner of CleanRL, on the vector environment: where an algorithm of your own can begin.

    python examples/cleanrl_ppo.py
    python examples/cleanrl_ppo.py --task digits --timesteps 23040

PPO (Schulman et al. 2017) with a clipped objective. All episodes have the same length here, so a rollout is one whole
episode of each environment, and no value is needed of what comes after it. gamma and gae_lambda are 1, for the reward
of the network comes with the last decision: see the environment's docstring. The default task is planted: a hidden
mask is to be found, and accuracy is the agreement with it.
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

import ads_gym  # registers the environment


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line, or of `words`."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--task", default="planted-45", help="name of a task: ads-gym tasks")
    parser.add_argument("--max-macs", type=float, help="limit on relative MACs")
    parser.add_argument("--timesteps", type=int, default=92_160, help="decisions in all")
    parser.add_argument("--num-envs", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--epochs", type=int, default=4, help="passes over a rollout")
    parser.add_argument("--minibatches", type=int, default=4)
    parser.add_argument("--gamma", type=float, default=1.0)
    parser.add_argument("--gae-lambda", type=float, default=1.0)
    parser.add_argument("--clip", type=float, default=0.2)
    parser.add_argument("--entropy", type=float, default=0.005, help="weight of the entropy bonus")
    parser.add_argument("--max-grad-norm", type=float, default=0.5)
    return parser.parse_args(words)


class Agent(nn.Module):
    """An actor and a critic of two hidden layers on the flat observation."""

    def __init__(self, width: int, actions: int, hidden: int = 64) -> None:
        super().__init__()
        self.actor, self.critic = _network(width, hidden, actions, gain=0.01), _network(width, hidden, 1, gain=1.0)

    def value(self, observation: Tensor) -> Tensor:
        """Return the values [n] of observations [n, width]."""
        return self.critic(observation).squeeze(-1)

    def policy(self, observation: Tensor, legal: Tensor) -> Categorical:
        """Return the distribution of actions; those that are not `legal`, bool [n, actions], have no probability."""
        return Categorical(logits=self.actor(observation).masked_fill(~legal, -torch.inf))


def _network(width: int, hidden: int, outputs: int, gain: float) -> nn.Sequential:
    layers = [nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)]
    for layer, each in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, each)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


def advantages_of(rewards: Tensor, values: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Return the generalised advantages [T, N] of whole episodes (Schulman et al. 2016)."""
    advantages, ahead, following = torch.zeros_like(rewards), torch.zeros(()), torch.zeros(())
    for t in reversed(range(len(rewards))):
        ahead = rewards[t] + gamma * following - values[t] + gamma * gae_lambda * ahead
        advantages[t], following = ahead, values[t]
    return advantages


def loss_of(agent: Agent, batch: dict[str, Tensor], clip: float, entropy: float) -> Tensor:
    """Return the loss of PPO for a minibatch."""
    policy = agent.policy(batch["observation"], batch["legal"])
    ratio = (policy.log_prob(batch["action"]) - batch["log_prob"]).exp()
    advantage = batch["advantage"]
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    gain = torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
    value_loss = (agent.value(batch["observation"]) - batch["return"]).square().mean()
    return 0.5 * value_loss - gain - entropy * policy.entropy().mean()


def roll_out(envs: Any, agent: Agent, observation: Any, info: Any, steps: int) -> tuple[dict[str, Tensor], Any, Any]:
    """Play one episode of each environment; return what was seen and done, [T, N, ...], and where the next begin."""
    rows: list[dict[str, Tensor]] = []
    for _ in range(steps):
        row = {"observation": torch.as_tensor(observation), "legal": torch.as_tensor(info["action_mask"]).bool()}
        with torch.no_grad():
            policy = agent.policy(row["observation"], row["legal"])
            row["action"] = policy.sample()
            row |= {"log_prob": policy.log_prob(row["action"]), "value": agent.value(row["observation"])}
        observation, reward, _, _, info = envs.step(row["action"].numpy())
        rows.append(row | {"reward": torch.as_tensor(reward, dtype=torch.float32)})
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}, observation, info


def train(arguments: argparse.Namespace) -> tuple[Agent, ads_gym.Architecture, float]:
    """Learn; return the agent, the best network that it tried, and that network's return."""
    torch.manual_seed(arguments.seed)
    keywords = {"task": arguments.task, "max_macs": arguments.max_macs, "autoreset_mode": "SameStep"}
    envs: Any = gym.make_vec("DenseNetSparsifyFlat-v0", num_envs=arguments.num_envs, **keywords)
    steps = len(envs.get_attr("rules")[0].groups)  # of an episode
    agent = Agent(envs.single_observation_space.shape[0], int(envs.single_action_space.n))
    optimizer = torch.optim.Adam(agent.parameters(), lr=arguments.learning_rate, eps=1e-5)
    best, best_return = None, -np.inf
    observation, info = envs.reset(seed=arguments.seed)
    updates = max(1, arguments.timesteps // (steps * arguments.num_envs))
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = arguments.learning_rate * (1 - update / updates)
        rollout, observation, info = roll_out(envs, agent, observation, info, steps)
        returns = rollout["reward"].sum(dim=0)  # undiscounted: the objective of each network
        if returns.max() > best_return:
            best, best_return = info["final_info"]["decisions"][int(returns.argmax())], float(returns.max())
        if update % max(1, updates // 8) == 0 or update == updates - 1:
            done = (update + 1) * steps * arguments.num_envs
            print(f"{done:>7,} decisions: mean return {returns.mean():.3f}, best {best_return:.3f}", flush=True)
        advantage = advantages_of(rollout["reward"], rollout["value"], arguments.gamma, arguments.gae_lambda)
        rollout |= {"advantage": advantage, "return": advantage + rollout["value"]}
        flat = {name: tensor.flatten(0, 1) for name, tensor in rollout.items()}
        for _ in range(arguments.epochs):
            for chosen in torch.randperm(len(flat["action"])).chunk(arguments.minibatches):
                batch = {name: tensor[chosen] for name, tensor in flat.items()}
                optimizer.zero_grad()
                loss_of(agent, batch, arguments.clip, arguments.entropy).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), arguments.max_grad_norm)
                optimizer.step()
    architecture = envs.problem.architecture(envs.topology.check_masks(best))
    envs.close()
    return agent, architecture, best_return


if __name__ == "__main__":
    arguments = parse_arguments()
    _, architecture, best_return = train(arguments)
    problem = ads_gym.make_problem(arguments.task, reward="soft", cost_weight="even")
    (dense,) = problem.score(problem.topology.dense()[None])
    (found,) = problem.score(architecture.mask[None])
    for name, scored in (("dense", dense), ("found", found)):
        macs = f"{scored.metrics.relative_macs:.0%} of the MACs"
        print(f"{name}: objective {scored.objective:.3f}, accuracy {scored.metrics.accuracy:.3f}, {macs}")
