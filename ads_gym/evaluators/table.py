"""An evaluator that knows all architectures already: a table of every mask's metrics. numpy only.

Shapes: E skip connections, at most 20; n masks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ads_gym.architecture import DenseNetConfig
from ads_gym.errors import DamagedFile, InvalidValue
from ads_gym.evaluators.base import BaseEvaluator, Metrics, Weights, with_cost
from ads_gym.files import digest, naming
from ads_gym.nets.arrays import read_arrays, to_bytes
from ads_gym.nets.cost import CostTable
from ads_gym.nets.features import Feature, Known
from ads_gym.topology import BoolArray, Topology

WHAT = "table of architectures"
MOST_CONNECTIONS = 20  # a million masks
LIMIT = 64 << 20  # bytes of a file
COLUMNS: Mapping[str, Any] = {"right": np.int32, "soft_accuracy": np.float32, "loss": np.float32}
NETWORK_FEATURES = tuple(each for each in Feature if each.needs_network)


@dataclass(frozen=True, eq=False)
class Table:
    """The metrics of every mask, with inherited or repaired weights or both, and what is known of connections.

    A mask's row is the binary number whose lowest bit is its first.
    """

    topology: Topology  # of scope "layers"
    network: str  # SHA-256 of the file with its weights
    valid: int  # images that were scored
    columns: Mapping[Weights, Mapping[str, NDArray[Any]]]  # [2^E]: images classified right, soft accuracy, loss
    features: Mapping[Feature, Known]  # those of the network

    def to_bytes(self) -> bytes:
        """As a file holds it."""
        arrays = {
            f"{weights}.{name}": column for weights, each in self.columns.items() for name, column in each.items()
        }
        arrays |= {f"feature.{feature}": self.features[feature].values for feature in NETWORK_FEATURES}
        arrays["feature_macs"] = np.array([self.features[each].macs for each in NETWORK_FEATURES], np.int64)
        arrays |= {"network": np.frombuffer(bytes.fromhex(self.network), np.uint8)}
        return to_bytes(arrays | {"valid": np.array([self.valid], np.int64)})


class TableEvaluator(BaseEvaluator):
    """Looks metrics up in a table.

    Args:
        config: of the network.
        table: of its architectures.
        weights: which of its metrics are given.
        fingerprint: of the table.
    """

    is_cheap = True

    def __init__(self, config: DenseNetConfig, table: Table, weights: Weights, fingerprint: str) -> None:
        self.config, self.topology = config, table.topology
        self.table, self.weights, self._digest = table, weights, fingerprint
        self._bits = 1 << np.arange(self.topology.size)

    @cached_property
    def _cost(self) -> CostTable:
        return CostTable(self.config, self.topology.scope)

    @property
    def fingerprint(self) -> str:
        """Of the table's file and the weights."""
        return f"table-{self.weights}-{self._digest[:32]}"

    def evaluate_checked(self, masks: BoolArray) -> list[Metrics]:
        """Return one Metrics for each of masks bool [n, E]."""
        rows, columns = masks @ self._bits, self.table.columns[self.weights]
        scores = zip(
            (columns["right"][rows] / self.table.valid).tolist(),
            columns["soft_accuracy"][rows].tolist(),
            columns["loss"][rows].tolist(),
            strict=True,
        )
        return with_cost(self._cost, masks, list(scores))


def check_few(size: int) -> None:
    """Refuse so many skip connections that no table can hold all masks.

    Raises:
        InvalidValue: too many.
    """
    if size > MOST_CONNECTIONS:
        raise InvalidValue(
            f"a table holds every architecture, and {size} skip connections have 2^{size} of them: use a network of at "
            f"most {MOST_CONNECTIONS}."
        )


def every_mask(size: int) -> BoolArray:
    """All masks bool [2^E, E], in the order of a table's rows.

    Raises:
        InvalidValue: too many.
    """
    check_few(size)
    return np.asarray((np.arange(1 << size)[:, None] >> np.arange(size)) & 1, np.bool_)


def read_table(path: Path, topology: Topology, expected: str) -> Table:
    """The table in a file; read once in a process.

    Args:
        path: of the file.
        topology: whose masks it has.
        expected: SHA-256 of the file.

    Raises:
        NotFound, StorageError: no such file, or one that may not be read.
        DamagedFile: another file, or no table of this topology.
    """
    found = digest(path, WHAT, LIMIT)
    if found != expected:
        raise DamagedFile(f"the {WHAT} {path} is not the one that its task.json names. Restore it, or make it again.")
    return _read(path, topology, found)


@lru_cache(maxsize=16)
def _read(path: Path, topology: Topology, found: str) -> Table:
    arrays, rows = read_arrays(path, WHAT, LIMIT), 1 << topology.size
    with naming(path, WHAT):
        columns = {
            weights: {
                name: _array(arrays, f"{weights}.{name}", (rows,), kind, 0, np.inf) for name, kind in COLUMNS.items()
            }
            for weights in Weights
            if any(name.startswith(f"{weights}.") for name in arrays)
        }
        if not columns:
            raise DamagedFile("it has no metrics.")
        (valid,) = _array(arrays, "valid", (1,), np.int64, 1, 1e9).tolist()
        macs = _array(arrays, "feature_macs", (len(NETWORK_FEATURES),), np.int64, 0, 1e18).tolist()
        for weights, each in columns.items():
            if each["right"].max() > valid or each["soft_accuracy"].max() > 1:
                raise DamagedFile(f"shares of images of {weights} are above 1.")
        features = {
            feature: Known(_array(arrays, f"feature.{feature}", (topology.size,), np.float64, -1e30, 1e30), price)
            for feature, price in zip(NETWORK_FEATURES, macs, strict=True)
        }
        network = _array(arrays, "network", (32,), np.uint8, 0, 255)
    return Table(topology, network.tobytes().hex(), valid, columns, features)


def _array(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], kind: Any, low: float, high: float
) -> NDArray[Any]:
    """An array of a file, checked.

    Raises:
        DamagedFile: it is missing, of another shape or type, or has values out of range.
    """
    found = arrays.get(name)
    if found is None or found.shape != shape or found.dtype != kind:
        got = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
        raise DamagedFile(f"it should have {name!r}, {np.dtype(kind)} {list(shape)}, got {got}.")
    if not (np.isfinite(found) & (found >= low) & (found <= high)).all():
        raise DamagedFile(f"{name!r} has values that are no numbers or out of range.")
    found.flags.writeable = False
    return found
