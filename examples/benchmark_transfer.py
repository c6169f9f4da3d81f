"""What a policy that has seen other networks is worth on new ones: the score after 1, 8, 32 and 128 evaluations.

    cd examples && OMP_NUM_THREADS=1 python benchmark_transfer.py --folder POOL

Supernets that are missing in POOL are made by the definition transfer/pool.json: 40 for training, 8 for validation and
16 that are held out, of other shapes, other seeds, other writers and other classes of scikit-learn's digits. (Whose
digits they are is told by their order alone: see ads_gym/pools/definition.py.) A score is (best objective - mean of
random masks) / (best of all - that mean), a mean over three limits and --seeds seeds, one number a supernet; intervals
of differences (95 %) are by bootstrap over supernets. The rule for what ships was fixed before: the recurrent policy if
it is ahead of the linear one and of the position prior, with an interval above 0, after 8 and after 32 evaluations.
Writes results/transfer.json and .md (transfer-inherited.* with --weights inherited, whose policies are trained on these
alone); a stopped benchmark goes on where it was.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from transfer.entrants import ALWAYS_ALIKE, entrants
from transfer.playing import scores
from transfer.summary import differences, ships, table

from ads_gym.agents.pretrained.validation import ROOMS
from ads_gym.evaluators.base import Weights
from ads_gym.files import write_file
from ads_gym.pools.definition import POOL, Role
from ads_gym.pools.making import make_member, read_member

HERE = Path(__file__).parent / "transfer"
BARS = ("linear", "position prior")
RESULTS = Path("results")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=HERE / "pool.json")
    parser.add_argument("--folder", type=Path, default=Path("pool"))
    parser.add_argument("--weights", nargs="+", choices=list(Weights), default=list(Weights))
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    weights, pool = [Weights(each) for each in args.weights], POOL.read(args.pool)
    for member in pool.members:
        make_member(member, args.folder, weights, device="cpu")
    policies = args.folder / f"policies-{'-'.join(weights)}-{args.updates}"
    players = entrants(args.pool, args.folder, weights, policies, args.updates)
    name = "transfer" if len(weights) == len(Weights) else f"transfer-{weights[0]}"
    path = RESULTS / f"{name}.json"
    done = json.loads(path.read_text()) if path.exists() else {}
    for member in pool.of(Role.HELD_OUT):
        for kind in weights:
            found = done.setdefault(kind, {}).setdefault(member.name, {})
            for name in [each for each in players if each not in found]:
                seeds = 1 if name in ALWAYS_ALIKE else args.seeds
                found[name] = scores(players[name], read_member(member, args.folder), kind, seeds)
            write_file(path, json.dumps(done) + "\n")
    lines = [f"{len(pool.of(Role.HELD_OUT))} supernets, {args.seeds} seeds, relative cost up to {ROOMS}.", ""]
    for kind in weights:
        rows = {name: np.array([each[name] for each in done[kind].values()]) for name in players}
        lines += [f"## {kind} weights", "", *table(rows), "", *differences(rows, "recurrent", BARS), ""]
        if len(done[kind]) > 4:
            lines += [
                f"By the rule, the recurrent policy {'ships' if ships(rows, 'recurrent', BARS) else 'does not ship'}.",
                "",
            ]
    write_file(RESULTS / f"{name}.md", "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
