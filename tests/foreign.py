"""Agents that know nothing of ads-gym: Stable-Baselines3's, a single-file PPO in CleanRL's manner, a plain loop."""

import itertools

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

EPISODE = 20  # decisions in planted-20


def ppo(env, seed):
    from stable_baselines3 import PPO

    PPO("MlpPolicy", env, n_steps=8 * EPISODE, batch_size=40, gamma=1.0, gae_lambda=1.0, seed=seed).learn(10**9)


def recurrent_ppo(env, seed):
    from sb3_contrib import RecurrentPPO

    model = RecurrentPPO("MlpLstmPolicy", env, n_steps=8 * EPISODE, batch_size=80, gamma=1.0, gae_lambda=1.0, seed=seed)
    model.learn(10**9)


def maskable_ppo(env, seed):
    from sb3_contrib import MaskablePPO

    MaskablePPO("MlpPolicy", env, n_steps=8 * EPISODE, batch_size=40, gamma=1.0, gae_lambda=1.0, seed=seed).learn(10**9)


def dqn(env, seed):
    from stable_baselines3 import DQN

    settings = {"learning_starts": 16 * EPISODE, "target_update_interval": 8 * EPISODE, "exploration_final_eps": 0.05}
    DQN("MlpPolicy", env, gamma=1.0, seed=seed, **settings).learn(10**9)


def plain_loop(env, seed):
    rng = np.random.default_rng(seed)
    _, info = env.reset(seed=seed)
    while True:
        keep = info["action_mask"][1] and rng.random() < 0.5
        _, _, terminated, truncated, info = env.step(int(keep))
        if terminated or truncated:
            _, info = env.reset()


def cleanrl_style_ppo(env, seed):
    """Flat observations, `Linear(prod(shape))`, one vector env of Gymnasium's, its default autoreset."""
    torch.manual_seed(seed)
    envs = gym.vector.SyncVectorEnv([lambda: gym.wrappers.RecordEpisodeStatistics(env)])
    width = int(np.prod(envs.single_observation_space.shape))
    actor = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, int(envs.single_action_space.n)))
    critic = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=2.5e-3)
    seen, _ = envs.reset(seed=seed)
    for _ in itertools.count():
        rows = []
        for _ in range(8 * EPISODE):
            x = torch.as_tensor(seen, dtype=torch.float32)
            with torch.no_grad():
                choice = Categorical(logits=actor(x))
                action = choice.sample()
                rows.append([x, action, choice.log_prob(action), critic(x).flatten()])
            seen, reward, terminated, truncated, _ = envs.step(action.numpy())
            rows[-1] += [torch.as_tensor(reward), torch.as_tensor(terminated | truncated)]
        x, action, logprob, value, reward, done = (torch.cat(column) for column in zip(*rows, strict=True))
        returns, ahead = torch.zeros(len(reward)), 0.0
        for t in reversed(range(len(reward))):
            ahead = float(reward[t]) + (0.0 if done[t] else ahead)
            returns[t] = ahead
        for _ in range(4):
            choice = Categorical(logits=actor(x))
            ratio, advantage = (choice.log_prob(action) - logprob).exp(), returns - value
            clipped = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
            loss = -clipped + 0.5 * (critic(x).flatten() - returns).square().mean() - 0.01 * choice.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


for play in (ppo, recurrent_ppo, maskable_ppo, dqn, plain_loop, cleanrl_style_ppo):
    play.observation = "flat"
