import itertools

import numpy as np
import pytest
import torch
from networks import random_images, trained_looking

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.images import ImageSet
from ads_gym.errors import DamagedFile, InvalidValue
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.scoring import measure
from ads_gym.nets.training import ConnectionDropout, Recipe, augment, fit

CONFIG = DenseNetConfig((3, 3), 4, 6, image_shape=(1, 8, 8), classes=3)


def stripes(n: int, seed: int = 0) -> ImageSet:
    """Three classes that are told apart by where a bright bar stands, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    images = rng.integers(0, 120, (n, 1, 8, 8))
    images[np.arange(n), 0, :, labels * 2 + 1] = 255
    return ImageSet(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels))


def fresh(seed=0) -> DenseNet:
    torch.manual_seed(seed)
    return DenseNet(CONFIG)


@pytest.mark.parametrize("dropout", [None, ConnectionDropout(0.0, 1.0)])
def test_it_learns_what_can_be_learned(dropout):
    network = fresh()
    fit(network, stripes(300), Recipe(epochs=8, batch_size=32, shift=0, dropout=dropout))
    assert measure(network, stripes(200, seed=1)).accuracy > 0.95


def test_connection_dropout_makes_the_chain_good_and_plain_training_does_not():
    from ads_gym.evaluators.inherited import InheritedEvaluator

    losses = {}
    for dropout in (None, ConnectionDropout(0.0, 1.0)):
        network = fresh()
        fit(network, stripes(300), Recipe(epochs=8, batch_size=32, shift=0, dropout=dropout))
        evaluator = InheritedEvaluator(network, stripes(100, 2), stripes(200, 1), device="cpu")
        losses[dropout] = evaluator.evaluate(evaluator.topology.chain()[None])[0].loss
    plain, dropped = losses.values()
    assert dropped < plain / 2


@pytest.mark.parametrize("dropout", [None, ConnectionDropout(0.5, 1.0)])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, dropout):
    recipe = Recipe(epochs=3, batch_size=32, dropout=dropout)
    whole, resumed = fresh(), fresh()
    fit(whole, stripes(100), recipe)
    checkpoint = tmp_path / "here" / "checkpoint.pt"

    def die(epoch: int, loss: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(resumed, stripes(100), recipe, checkpoint, die)
    again, seen = fresh(seed=5), []
    fit(again, stripes(100), recipe, checkpoint, lambda epoch, loss: seen.append(epoch))
    assert seen == [3]
    done = fresh(seed=6)  # killed after the last epoch, before anything was made of it
    fit(done, stripes(100), recipe, checkpoint, lambda epoch, loss: pytest.fail("trained again"))
    for a, b, c in zip(*(network.state_dict().values() for network in (whole, again, done)), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_a_damaged_or_hostile_checkpoint_is_refused(tmp_path):
    import pickle

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "created"), "w"))

    checkpoint = tmp_path / "checkpoint.pt"
    for content in (b"", b"nonsense", pickle.dumps(Hostile())):
        checkpoint.write_bytes(content)
        with pytest.raises(DamagedFile, match=r"checkpoint\.pt"):
            fit(fresh(), stripes(100), Recipe(epochs=1), checkpoint)
    torch.save({"network": trained_looking(CONFIG).state_dict()}, checkpoint)
    with pytest.raises(DamagedFile, match=r"checkpoint\.pt"):
        fit(fresh(), stripes(100), Recipe(epochs=1), checkpoint)
    assert not (tmp_path / "created").exists()


def test_augmentation_moves_each_image_on_its_own():
    images = random_images(CONFIG, 64).images
    moved = augment(images, 1, True, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, [1] * 4)
    draws = []
    for before, after in zip(padded, moved, strict=True):
        found = [
            (y, x, flip)
            for y, x, flip in itertools.product(range(3), range(3), [False, True])
            if torch.equal(before[:, y : y + 8, x : x + 8].flip(2) if flip else before[:, y : y + 8, x : x + 8], after)
        ]
        assert len(found) == 1
        draws += found
    assert len(set(draws)) > 10
    assert torch.equal(augment(images, 0, False, torch.Generator()), images)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Recipe(epochs=0),
        lambda: Recipe(batch_size=1),
        lambda: Recipe(shift=-1),
        lambda: Recipe(learning_rate=float("nan")),
        lambda: Recipe(weight_decay=-1.0),
        lambda: ConnectionDropout(0.7, 0.3),
        lambda: ConnectionDropout(-0.1, 0.3),
        lambda: ConnectionDropout(masks_per_step=0),
        lambda: fit(fresh(), stripes(10), Recipe(batch_size=64)),
        lambda: fit(fresh(), stripes(100), Recipe(epochs=3, learning_rate=1e30)),
    ],
)
def test_bad_recipes_are_told(bad):
    with pytest.raises(InvalidValue):
        bad()
