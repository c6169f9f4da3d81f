"""Stable-Baselines3's PPO, A2C and DQN, and sb3-contrib's RecurrentPPO and MaskablePPO, as agents.

    ads-gym search --agent sb3:ppo --agent-option learning_rate=0.001
    model = PPO("MlpPolicy", vec_env(gym.make_vec("ads_gym:DenseNetSparsifyFlat-v0", num_envs=8)), gamma=1.0)

Their defaults are made for long episodes with a reward at every step. Here it comes with the last decision, so gamma
and gae_lambda are 1 (at gae_lambda 0.95 a tenth of the credit is left after 45 steps, nothing after 198; a discount
would change what is optimal). A rollout is 8 whole episodes, and as many whole ones each where environments do not
divide 8; it is one batch, with four epochs. DQN's returns are of the whole rest of an episode, and its exploration is
constant, for how long a run will be is not known. Options are those of SB3's constructors, with SB3's other defaults.

This file and `sb3_vec_env` are the only ones that know Stable-Baselines3; here it is imported where it is used.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from gymnasium.vector import VectorEnv
from pydantic import Field

from ads_gym.agents.base import Epochs, NotNegative
from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import InvalidValue, shown, unknown_name
from ads_gym.imports import import_package
from ads_gym.limits import MAX_MASKS
from ads_gym.records import Number, Share, check

if TYPE_CHECKING:
    from ads_gym.agents.sb3_vec_env import DenseNetSparsifyVecEnv

EPISODES = 8  # in a rollout
RANDOM_ACTIONS = 2  # of an episode of DQN's, on average
MAX_STEPS = 10**9  # the budget ends the run
CONTRIB = "sb3-contrib"  # what pip calls the package of RecurrentPPO and MaskablePPO


def ppo(env: Any, seed: int, **options: Any) -> None:
    """Stable-Baselines3's PPO.

    Two hidden layers read the flat observation.

    Args:
        env: `DenseNetSparsifyVectorEnv`, observation "flat".
        seed: of all random numbers.
        options: of SB3's `PPO`.

    Raises:
        UnknownName, InvalidValue: an unknown option, or one out of range.
    """
    from stable_baselines3 import PPO

    _learn("ppo", PPO, env, seed, options)


def a2c(env: Any, seed: int, **options: Any) -> None:
    """Stable-Baselines3's A2C.

    Two hidden layers read the flat observation.

    Args:
        env: `DenseNetSparsifyVectorEnv`, observation "flat".
        seed: of all random numbers.
        options: of SB3's `A2C`.

    Raises:
        UnknownName, InvalidValue: an unknown option, or one out of range.
    """
    from stable_baselines3 import A2C

    own = {name: value for name, value in settings(env.unwrapped).items() if name not in ("batch_size", "n_epochs")}
    _learn("a2c", A2C, env, seed, options, own | {"normalize_advantage": True})


def dqn(env: Any, seed: int, **options: Any) -> None:
    """Stable-Baselines3's DQN.

    Two hidden layers read the flat observation.

    Args:
        env: `DenseNetSparsifyVectorEnv`, observation "flat".
        seed: of all random numbers.
        options: of SB3's `DQN`.

    Raises:
        UnknownName, InvalidValue: an unknown option, or one out of range.
    """
    from stable_baselines3 import DQN

    _learn("dqn", DQN, env, seed, options, dqn_settings(env.unwrapped))


def recurrent(env: Any, seed: int, **options: Any) -> None:
    """sb3-contrib's RecurrentPPO.

    An LSTM of 32 units reads the flat observation.

    Args:
        env: `DenseNetSparsifyVectorEnv`, observation "flat".
        seed: of all random numbers.
        options: of sb3-contrib's `RecurrentPPO`.

    Raises:
        UnknownName, InvalidValue: an unknown option, or one out of range.
        MissingPackage: sb3-contrib is not installed.
    """
    lstm = {"policy": "MlpLstmPolicy", "policy_kwargs": {"lstm_hidden_size": 32, "net_arch": [32]}}
    _learn("recurrent", import_package("sb3_contrib", CONTRIB).RecurrentPPO, env, seed, lstm | options)


def maskable(env: Any, seed: int, **options: Any) -> None:
    """sb3-contrib's MaskablePPO.

    Two hidden layers read the flat observation; it never tries what does not fit.

    Args:
        env: `DenseNetSparsifyVectorEnv`, observation "flat".
        seed: of all random numbers.
        options: of sb3-contrib's `MaskablePPO`.

    Raises:
        UnknownName, InvalidValue: an unknown option, or one out of range.
        MissingPackage: sb3-contrib is not installed.
    """
    _learn("maskable", import_package("sb3_contrib", CONTRIB).MaskablePPO, env, seed, options)


for _agent, _source in {
    ppo: "Schulman et al. 2017",
    a2c: "Mnih et al. 2016",
    dqn: "Mnih et al. 2015; Sutton 1988",
    recurrent: "Schulman et al. 2017",
    maskable: "Huang and Ontañón 2022",
}.items():
    _agent.num_envs = EPISODES  # type: ignore[attr-defined]
    _agent.observation = "flat"  # type: ignore[attr-defined]
    _agent.source = _source  # type: ignore[attr-defined]


def vec_env(env: VectorEnv[Any, Any, Any]) -> "DenseNetSparsifyVecEnv":
    """Return a `DenseNetSparsifyVectorEnv`, wrapped or not, as a Stable-Baselines3 `VecEnv`.

    Raises:
        InvalidValue: another environment.
    """
    from ads_gym.agents.sb3_vec_env import DenseNetSparsifyVecEnv

    return DenseNetSparsifyVecEnv(env)


def settings(envs: DenseNetSparsifyVectorEnv) -> dict[str, Any]:
    """Return keywords with which SB3's PPOs learn in this environment: see the module's docstring."""
    steps = len(envs.template.rules.groups) * max(1, EPISODES // envs.num_envs)
    return {
        "policy": "MlpPolicy",
        "n_steps": steps,
        "batch_size": steps * envs.num_envs,
        "n_epochs": 4,
        "learning_rate": 3e-3,
        "gamma": 1.0,
        "gae_lambda": 1.0,
        "device": "cpu",
    }


def dqn_settings(envs: DenseNetSparsifyVectorEnv) -> dict[str, Any]:
    """Return keywords with which SB3's DQN learns in this environment: see the module's docstring."""
    steps = len(envs.template.rules.groups)
    exploration = min(1.0, RANDOM_ACTIONS / steps)
    return {
        "policy": "MlpPolicy",
        "n_steps": steps,
        "batch_size": 64,
        "buffer_size": 50_000,
        "learning_starts": 2 * steps * envs.num_envs,
        "target_update_interval": steps * envs.num_envs,
        "exploration_initial_eps": exploration,
        "exploration_final_eps": exploration,
        "learning_rate": 1e-3,
        "gamma": 1.0,
        "device": "cpu",
    }


Whole = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Schedule = NotNegative | Callable[..., Any]  # a function of the remaining progress
KINDS: dict[str, Any] = {
    "n_steps": Annotated[int, Field(ge=1, le=MAX_MASKS)],
    "batch_size": Annotated[int, Field(ge=2, le=MAX_STEPS)],
    "n_epochs": Epochs,
    "stats_window_size": Whole,
    "sde_sample_freq": int,
    "buffer_size": Annotated[int, Field(ge=1, le=MAX_MASKS)],
    "learning_starts": Annotated[int, Field(ge=0, le=MAX_STEPS)],
    "gradient_steps": Annotated[int, Field(ge=-1, le=MAX_STEPS)],
    "target_update_interval": Whole,
    "verbose": Annotated[int, Field(ge=0, le=2)],
    "learning_rate": Schedule,
    "clip_range": Schedule,
    "clip_range_vf": Schedule,
    "gamma": Share,
    "gae_lambda": Share,
    "tau": Share,
    "exploration_fraction": Share,
    "exploration_initial_eps": Share,
    "exploration_final_eps": Share,
    "rms_prop_eps": NotNegative,
    "ent_coef": Number,
    "vf_coef": Number,
    "max_grad_norm": NotNegative,
    "target_kl": NotNegative,
    "normalize_advantage": bool,
    "use_sde": bool,
    "use_rms_prop": bool,
    "optimize_memory_usage": bool,
    "tensorboard_log": str,
    "rollout_buffer_class": type,
    "rollout_buffer_kwargs": dict,
    "replay_buffer_class": type,
    "replay_buffer_kwargs": dict,
    "policy_kwargs": dict,
}


def _learn(
    name: str, model: Any, env: Any, seed: int, options: dict[str, Any], own: dict[str, Any] | None = None
) -> None:
    """Make a model and let it learn until it raises `BudgetExhausted`.

    Args:
        name: of the agent, without "sb3:".
        model: SB3's class.
        env: see the agents.
        seed: of all random numbers.
        options: a user's.
        own: keywords that the agent gives, where no option is; None: `settings`.
    """
    envs = vec_env(env)
    _check_options(f"sb3:{name}", model, options)
    model(env=envs, seed=seed, **(settings(env.unwrapped) if own is None else own) | options).learn(MAX_STEPS)


def _check_options(agent: str, model: Any, options: dict[str, Any]) -> None:
    """Check options against the model's signature and their ranges; what SB3 raises afterwards is its own error.

    Raises:
        UnknownName, InvalidValue: an unknown option, or one that SB3 refuses late or never.
    """
    parameters = inspect.signature(model).parameters
    known = set(parameters) - {"env", "seed", "_init_setup_model"}
    for option, value in options.items():
        if option not in known:
            raise unknown_name(f"option of agent {agent}:", option, known)
        if value is None and parameters[option].default is None:
            continue
        if option in KINDS:
            check(value, KINDS[option], f"option {option} of agent {agent}")
    if options.get("use_sde"):
        raise InvalidValue(f"option use_sde of agent {agent} is for continuous actions, and here they are discrete.")
    if "device" in options:
        _check_device(agent, options["device"])
    _check_policy(agent, model, options.get("policy"), options.get("policy_kwargs") or {})


def _check_policy(agent: str, model: Any, policy: Any, options: dict[str, Any]) -> None:
    """Check a policy and its options; a policy by name must read flat observations."""
    names = [name for name in model.policy_aliases if name.startswith("Mlp")]
    if not inspect.isclass(policy):
        policy = names[0] if policy is None else policy
        if policy not in names:
            raise unknown_name(f"policy of agent {agent} on flat observations:", policy, names)
        policy = model.policy_aliases[policy]
    parameters = inspect.signature(policy).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [name for name in parameters if name not in ("observation_space", "action_space", "lr_schedule", "use_sde")]
    for option in options:
        if option not in known:
            raise unknown_name(f"policy_kwargs entry of agent {agent}:", option, known)


def _check_device(agent: str, device: object) -> None:
    import torch

    if isinstance(device, str) and device == "auto":
        return
    try:
        torch.device(device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError) as error:
        raise InvalidValue(f"option device of agent {agent} must be auto, cpu or cuda, got {shown(device)}.") from error
