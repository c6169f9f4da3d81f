"""The agents that choose whole masks: random, density, bernoulli, one-flip local search."""

import numpy as np
import pytest
from agentgames import masks_of, planted, recorded, run, single
from stable_baselines3.common.evaluation import evaluate_policy

from ads_gym.agents.bernoulli import Bernoulli
from ads_gym.agents.density import Density
from ads_gym.agents.local_search import LocalSearch
from ads_gym.agents.random_search import RandomAgent
from ads_gym.errors import InvalidValue

AGENTS = [RandomAgent, Density, Bernoulli, LocalSearch]


@pytest.mark.parametrize("decision", ["connection", "layer", "network"])
@pytest.mark.parametrize("agent", AGENTS)
def test_spends_its_budget_in_every_mode_within_the_limit(tmp_path, agent, decision):
    record = recorded(tmp_path, planted(6, 6), 60)
    env = single(record, decision=decision, max_macs=0.7, cost_weight=0.1)
    run(agent, env, seed=1)
    assert len(record.history.rows) == 60
    assert max(row.metrics.relative_macs for row in record.history.rows) <= 0.7


@pytest.mark.parametrize("agent", AGENTS)
def test_the_seed_decides(tmp_path, agent):
    records = [recorded(tmp_path / str(i), planted(5, 5), 80) for i in range(3)]
    for record, seed in zip(records, (3, 3, 4), strict=True):
        run(agent, single(record), seed=seed)
    assert masks_of(records[0]) == masks_of(records[1]) != masks_of(records[2])


@pytest.mark.parametrize("agent", AGENTS)
def test_a_longer_run_begins_like_a_shorter_one(tmp_path, agent):
    short, long = recorded(tmp_path / "short", planted(5, 5), 50), recorded(tmp_path / "long", planted(5, 5), 120)
    for record in (short, long):
        run(agent, single(record), seed=0)
    assert masks_of(long)[:50] == masks_of(short)


@pytest.mark.parametrize("agent", AGENTS)
def test_learns_for_as_many_steps_as_it_is_told(tmp_path, agent):
    record = recorded(tmp_path, planted(5, 5), 1000)
    agent(single(record), seed=0).learn(40 * 20)
    assert 40 <= record.episodes < 80


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("observation", ["matrix", "flat"])
def test_sb3_evaluates_it(tmp_path, agent, observation):
    env = single(recorded(tmp_path, planted(5, 5), 10_000), observation=observation)
    made = agent(env, seed=0)
    made.learn(20)
    rewards, lengths = evaluate_policy(made, env, 5, deterministic=True, return_episode_rewards=True, warn=False)
    assert lengths == [20] * 5
    assert all(0 <= reward <= 1 for reward in rewards)


def test_bernoulli_learns_which_and_density_only_how_many(tmp_path):
    evaluator = planted(5, 5)
    scores = {}
    for agent in (Bernoulli, Density):
        env = single(recorded(tmp_path / agent.__name__, evaluator, 2000))
        made = agent(env, seed=0)
        made.learn(800 * 20)
        scores[agent] = np.mean([made.play(made.propose(deterministic=False)).score for _ in range(50)])
    assert scores[Bernoulli] > 0.95
    majority = max(evaluator.optimum.mean(), 1 - evaluator.optimum.mean())
    assert scores[Density] <= majority + 1e-9 < 0.95


def test_bernoulli_starts_at_the_density_that_fits(tmp_path):
    env = single(recorded(tmp_path, planted(6, 6, 6), 100), max_macs=0.45)
    made = Bernoulli(env, seed=0)
    costs = [made.propose(deterministic=False) @ made.game.costs for _ in range(300)]
    assert np.mean(costs) == pytest.approx(made.game.room, abs=0.02)


def test_local_search_comes_to_the_top_and_never_repeats_itself(tmp_path):
    evaluator = planted(6, 6, 6)
    record = recorded(tmp_path, evaluator, 400)
    made = run(LocalSearch, single(record), seed=0)
    assert np.array_equal(made.propose(deterministic=True), evaluator.optimum)
    assert record.episodes == len(record.history.rows) == 400


def test_local_search_ends_where_there_is_nothing_new(tmp_path):
    record = recorded(tmp_path, planted(3), 20)  # 8 masks
    run(LocalSearch, single(record), seed=0)
    assert (len(record.history.rows), record.stopped_by) == (8, "episodes")


@pytest.mark.parametrize(
    ("agent", "options"),
    [(LocalSearch, {"starts": 0}), (LocalSearch, {"kick": 0}), (Bernoulli, {"batch": 1}), (Density, {"rate": 0})],
)
def test_options_out_of_range_are_refused(tmp_path, agent, options):
    with pytest.raises(InvalidValue, match="at least"):
        agent(single(recorded(tmp_path, planted(5, 5), 10)), **options)
