"""How much smaller without labels: choosing connections, repairing and distilling, side by side.

    cd examples && python benchmark_sparsify.py FOLDERS [--limits 0.7 0.5] [--evaluations 64] [--test]

FOLDERS are tasks of one kind, trained with several seeds. For each and each limit on relative MACs, connections are
chosen by `residual` (no evaluations), at random, and by searches of N evaluations (`bayes`, `recurrent`; rewarded with
the repaired or with the inherited loss). Every network is then repaired with the same unlabelled TRAIN images, and the
first of each kind distilled. Accuracy on VALID. With --test nothing is made any more: the networks that are there are
scored on TEST, once, and the results file counts it. Writes results/sparsify-NAME.json and .md here; networks and
searches lie in runs/sparsify; a stopped benchmark goes on where it was.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
from compare.labels import Results
from compare.networks import SEARCHES, Maker

from ads_gym.data.splits import Split
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import load
from ads_gym.tasks import Task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", type=Task.load)
    parser.add_argument("--name", default="fashion-mnist")
    parser.add_argument("--limits", type=float, nargs="+", default=[0.7, 0.5])
    parser.add_argument("--searches", nargs="*", choices=SEARCHES, default=list(SEARCHES))
    parser.add_argument("--evaluations", type=int, default=64)
    parser.add_argument("--random", type=int, default=16)
    parser.add_argument("--distilled", type=int, default=2, help="of the random masks")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--test", action="store_true")
    args = parser.parse_args()
    kept = {key: value for key, value in vars(args).items() if key not in ("tasks", "test")}
    results = Results(Path(f"results/sparsify-{args.name}.json"), kept)
    if not args.test:
        for task in args.tasks:
            Maker(task, results, args).make()
        return
    results.report["test_reads"] += 1
    results.write()
    for task in args.tasks:
        for row in results.rows:
            if row["task"] == task.folder.name:
                row["test"] = 100 * measure(load(row["file"]), task.images(Split.TEST)).accuracy
    results.write()


if __name__ == "__main__":
    main()
