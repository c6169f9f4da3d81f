"""The three things that ads-gym is for, on 8x8 digits: play, search, take the found network home.

python examples/quickstart.py
"""

import gymnasium as gym
import torch

import ads_gym
from ads_gym.data.splits import Split, network_input


def play() -> None:
    """One episode of random decisions, a layer at a time."""
    env = gym.make("DenseNetSparsify-v0", task="digits", decision="layer", render_mode="ansi")
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    over = False
    while not over:
        _, _, over, _, info = env.step(env.action_space.sample())
    print(env.render())
    print(f"accuracy {info['accuracy']:.3f} on validation images at {info['relative_macs']:.0%} of the MACs\n")


def search() -> ads_gym.SearchResult:
    """32 networks, where the command `ads-gym search` tries 128. Called again, it shows what it found."""
    result = ads_gym.search("digits", agent="bayes", evaluations=32)
    for line in result.table:
        macs = f"{line.relative_macs:.0%} of the MACs"
        accuracy = f"accuracy {line.inherited_accuracy:.3f} inherited, {line.repaired_accuracy:.3f} repaired"
        print(f"{line.name:<7} objective {line.objective:.3f}  {accuracy}  {macs}")
    return result


def take_home(result: ads_gym.SearchResult) -> None:
    """The network is an ordinary torch module: dropped connections have no weights in it and cost nothing."""
    network = ads_gym.load(result.folder / "best")
    images = ads_gym.Task.load("digits").images(Split.VALID)
    with torch.no_grad():
        classes = network(network_input(images.images)).argmax(dim=1)
    right = (classes == images.labels).float().mean()
    count = sum(parameter.numel() for parameter in network.parameters())
    print(f"\n{result.folder}/best.safetensors: {count:,} parameters, accuracy {right:.3f} as it is, without training")


if __name__ == "__main__":
    play()
    take_home(search())
