"""Which supernet ships for `digits`: the first candidate that passes, on VALID, a rule fixed beforehand.

    cd examples && python benchmark_digits.py [HOW_MANY]

The rule: dense inherited accuracy at least 96.5 %; dense minus chain at least 5 points; at relative cost 0.45-0.55 the
standard deviation of soft accuracy over 200 masks at least 3 x its paired image-bootstrap standard deviation; at least
200 distinct values of loss and 40 of accuracy in 500 masks of random density. Writes results/digits-choice.md here.
The one that ships: ads-gym train-supernet --task digits --growth 4 --stem 8 --epochs 40 --shift 1 --seed 0
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.splits import Split, calibration_images, default_spec, load_splits
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.training import Recipe, fit

CANDIDATES = [(4, 8, 0), (3, 8, 0), (4, 8, 1), (3, 8, 1)]  # growth, stem channels, seed
HEAD = "| growth | stem | seed | dense | chain | soft at 0.5 (sd) | sd / image sd | losses | accuracies | passes |"


def noise(probabilities: np.ndarray, rng: np.random.Generator) -> float:
    """How much a mask's soft accuracy, relative to the others', moves when the images are drawn again.

    Args:
        probabilities: of the true class, float [masks, images].
        rng: draws the images, the same for all masks.
    """
    images = probabilities.shape[1]
    means = np.stack([probabilities[:, rng.integers(0, images, images)].mean(axis=1) for _ in range(200)])
    return float((means - means.mean(axis=1, keepdims=True)).std(axis=0).mean())


def row(growth: int, stem: int, seed: int) -> str:
    """Train one candidate; its line in the table."""
    data = default_spec("digits")
    splits, rng = load_splits(data), np.random.default_rng(0)
    torch.manual_seed(seed)
    supernet = DenseNet(DenseNetConfig((6, 6, 6), growth, stem, image_shape=(1, 8, 8)))
    fit(supernet, splits[Split.TRAIN], Recipe(epochs=40, shift=1, seed=seed))
    valid, table = splits[Split.VALID], CostTable(supernet.config)
    evaluator = InheritedEvaluator(supernet, calibration_images(data, splits[Split.TRAIN]), valid, device="cpu")
    dense, chain = evaluator.evaluate(np.stack([table.topology.dense(), table.topology.chain()]))
    half = [table.random_mask(rng, rng.uniform(0.45, 0.55)) for _ in range(200)]
    probabilities = np.stack(
        [evaluator.logits(mask).double().softmax(1)[range(len(valid)), valid.labels].numpy() for mask in half]
    )
    soft = probabilities.mean(axis=1)
    ratio = soft.std() / noise(probabilities, rng)
    mixed = evaluator.evaluate(rng.random((500, table.topology.size)) < rng.random((500, 1)))
    losses, accuracies = len({m.loss for m in mixed}), len({m.accuracy for m in mixed})
    apart = dense.accuracy - chain.accuracy >= 0.05
    passes = dense.accuracy >= 0.965 and apart and ratio >= 3 and losses >= 200 and accuracies >= 40
    ends = f"{dense.accuracy:.3f} | {chain.accuracy:.3f}"
    spread = f"{soft.mean():.3f} ({soft.std():.3f}) | {ratio:.1f} | {losses} | {accuracies}"
    return f"| {growth} | {stem} | {seed} | {ends} | {spread} | {'yes' if passes else 'no'} |"


def main() -> None:
    lines = [HEAD, "|" + "---|" * 10]
    for candidate in CANDIDATES[: int(sys.argv[1]) if len(sys.argv) > 1 else None]:
        lines.append(row(*candidate))
        print(lines[-1], flush=True)
    Path("results").mkdir(exist_ok=True)
    Path("results/digits-choice.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
