"""What `sparsify` takes for a network of torchvision at 224 pixels: time and memory; and how much faster the result is.

    cd examples && python benchmark_large.py [--network densenet121] [--images 171] [--max-macs 0.5]

Weights and images are random, for neither time nor memory depends on them. A quarter of the images score networks, and
the weights are solved from the others, up to 128. Two threads unless OMP_NUM_THREADS says otherwise; every call is a
process of its own, so that its peak of memory is that of one network. Writes results/large-NETWORK-DEVICE.json and .md
here; a network that is there already with the same settings is measured once more.
"""

import argparse
import os
import resource
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")
import torch
import torchvision
from compare.labels import Results, Row, markdown

import ads_gym
from ads_gym.nets.latency import measure_latency

BATCHES = 1, 8  # images


def measured(args: argparse.Namespace) -> Row:
    """Seconds, GiB and latency ratios of one call."""
    torch.manual_seed(0)
    model = getattr(torchvision.models, args.network)().eval()
    images = torch.randint(0, 256, (args.images, 3, args.size, args.size), dtype=torch.uint8)
    began = time.perf_counter()
    made = ads_gym.sparsify(model, images, transform=standardised, max_macs=args.max_macs, device=args.device, distil=0)
    seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
    if torch.cuda.is_available():
        peak = max(peak, torch.cuda.max_memory_reserved() / 2**30)
    ratios = {
        f"batch {batch}": measure_latency(made.architecture, batch, device=args.device).ratio.median
        for batch in BATCHES
    }
    return {"seconds": seconds, "peak GiB": peak, "relative_macs": made.relative_macs} | ratios


def standardised(images: torch.Tensor) -> torch.Tensor:
    """About as ImageNet's weights read them."""
    return (images.float() / 255 - 0.45) / 0.225


def table(rows: list[Row]) -> list[str]:
    """Markdown lines: a row a call."""
    heads = ["call", "seconds", "peak, GiB", "MACs", *(f"dense / sparse, batch of {batch}" for batch in BATCHES)]
    lines = [
        [
            str(number),
            f"{row['seconds']:.0f}",
            f"{row['peak GiB']:.2f}",
            f"{row['relative_macs']:.3f}",
            *(f"{row[f'batch {batch}']:.2f}" for batch in BATCHES),
        ]
        for number, row in enumerate(rows, start=1)
    ]
    return markdown(heads, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="densenet121")
    parser.add_argument("--images", type=int, default=171)
    parser.add_argument("--size", type=int, default=224, help="of images, pixels")
    parser.add_argument("--max-macs", type=float, default=0.5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    where = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    Results(Path(f"results/large-{args.network}-{args.device}.json"), vars(args) | where, table).write(measured(args))


if __name__ == "__main__":
    main()
