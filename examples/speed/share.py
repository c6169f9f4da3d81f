"""How much of the machine inherited evaluation uses: operations a second beside the peak of a large convolution.

Counted twice. Needed: what the masks have in closed form (2 for a multiply-add, times images), each by itself. Done:
what convolutions and products were carried out, counted operation by operation; the rest was shared between masks.
"""

from dataclasses import dataclass
from typing import ClassVar

from speed.evaluator import problem, settings

from ads_gym.evaluators.bench import measure_paces


@dataclass(frozen=True)
class Share:
    """One kind of masks on one network; rates a second."""

    HEAD: ClassVar[str] = (
        "| masks | masks/s (range) | needed, GFLOP/s | done, GFLOP/s | a large convolution, GFLOP/s "
        "| needed / peak | done / peak | memory traffic / a large copy's |"
    )

    what: str
    rates: list[float]  # masks, repeat by repeat
    rate: float
    needed: float  # operations, were each mask computed by itself
    done: float  # operations in convolutions and products
    convolution: float  # operations, the peak in the same run
    product: float  # operations of a large matrix product
    traffic: float  # bytes that tensor operations read and wrote, as if no cache held any
    bandwidth: float  # bytes of a large copy

    def line(self) -> str:
        """As HEAD says."""
        rates = f"{self.rate:.3g} ({min(self.rates):.3g} - {max(self.rates):.3g})"
        numbers = " | ".join(f"{each / 1e9:.1f}" for each in (self.needed, self.done, self.convolution))
        shares = self.needed / self.convolution, self.done / self.convolution, self.traffic / self.bandwidth
        return f"| {self.what} | {rates} | {numbers} | {' | '.join(f'{share:.0%}' for share in shares)} |"


def measure(small: bool) -> list[Share]:
    """A line for every kind of masks, on every network."""
    shares = []
    for name, setting in settings(small).items():
        evaluator, images = problem(setting).evaluator, setting.valid + setting.calibration
        machine, paces, _ = measure_paces(evaluator, images, masks=4 if small else 16, repeats=1 if small else 5)
        for pace in paces:
            needed = pace.needed / pace.counted * pace.rate
            peaks = machine.convolution, machine.product, pace.traffic, machine.bandwidth
            what = f"{pace.kind}, {pace.counted} masks, {name}"
            shares.append(Share(what, pace.rates, pace.rate, needed, pace.operations, *peaks))
    return shares
