"""An Optuna study whose trials are networks: the best accuracy at each cost, on 8x8 digits.

    pip install optuna
    python examples/optuna_study.py --trials 60

A trial is a mask, and one call of `Problem.score` scores it: all of Optuna's samplers, storages and dashboards work.
"""

import argparse

import numpy as np
import optuna

import ads_gym


def study_masks(problem: ads_gym.Problem, trials: int, seed: int = 0) -> optuna.Study:
    """Maximise soft accuracy and minimise relative MACs, one parameter a skip connection."""
    names = [f"block {block}: {src} -> {dst}" for block, dst, src in problem.topology.connections.tolist()]

    def score(trial: optuna.Trial) -> tuple[float, float]:
        mask = np.array([trial.suggest_categorical(name, [False, True]) for name in names])
        (scored,) = problem.score(mask[None])
        trial.set_user_attr("accuracy", scored.metrics.accuracy)
        return scored.metrics.soft_accuracy, scored.metrics.relative_macs

    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=trials // 4)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    rng = np.random.default_rng(seed)
    known = [problem.topology.dense(), problem.topology.chain()]
    for mask in known + [problem.sample(rng) for _ in range(trials // 4)]:  # of every density: a fair coin draws few
        study.enqueue_trial(dict(zip(names, mask.tolist(), strict=True)))
    study.optimize(score, n_trials=trials)
    return study


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="digits")
    parser.add_argument("--trials", type=int, default=60)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = study_masks(ads_gym.make_problem(arguments.task), arguments.trials)
    print(f"best of {arguments.trials} networks:")
    for trial in sorted(study.best_trials, key=lambda trial: trial.values[1]):
        soft, macs = trial.values
        print(f"  {macs:.0%} of the MACs: accuracy {trial.user_attrs['accuracy']:.3f}, soft {soft:.3f}")
