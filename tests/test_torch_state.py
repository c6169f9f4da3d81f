"""Whatever the calling program has set in torch: the same bits, no error, and all settings as they were."""

import contextlib
import multiprocessing
import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from marks import slow
from networks import KINDS, random_images, trained_looking
from torch.backends import cuda, cudnn, mkldnn

import ads_gym
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.splits import Split
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.folded import fold
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import build_sparse, calibrate, save
from ads_gym.tasks import Task

CPU = torch.device("cpu")
WIDE = DenseNetConfig((3, 4), 16, 32, "conv3", image_shape=(3, 16, 16))  # so wide that bfloat16 would be used


@contextlib.contextmanager
def attribute(module, name, value):
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def call(setter, value, before):
    setter(value)
    try:
        yield
    finally:
        setter(before)


@contextlib.contextmanager
def backend_precision(value):
    """oneDNN's; the attribute's setter sets the whole process's in some releases."""
    mkldnn.set_flags(_fp32_precision=value)
    try:
        yield
    finally:
        mkldnn.set_flags(_fp32_precision="none")


@contextlib.contextmanager
def matmul_precision(value):
    torch.set_float32_matmul_precision(value)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        mkldnn.matmul.fp32_precision = cuda.matmul.fp32_precision = "none"


@contextlib.contextmanager
def all_of_them():
    with contextlib.ExitStack() as stack:
        names = ("autocast", "float64 by default", "meta by default", "bf16 for all", "no oneDNN", "inference mode")
        for name in names:
            stack.enter_context(CONTEXTS[name]())
        yield


CONTEXTS = {
    "nothing": contextlib.nullcontext,
    "autocast": lambda: torch.autocast("cpu"),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "float64 by default": lambda: call(torch.set_default_dtype, torch.float64, torch.float32),
    "float16 by default": lambda: call(torch.set_default_dtype, torch.float16, torch.float32),
    "bfloat16 by default": lambda: call(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "meta by default": lambda: call(torch.set_default_device, "meta", None),
    "with meta": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "grad": torch.enable_grad,
    "deterministic": lambda: call(torch.use_deterministic_algorithms, True, False),
    "medium products": lambda: matmul_precision("medium"),
    "high products": lambda: matmul_precision("high"),
    "highest products": lambda: matmul_precision("highest"),
    "tf32 for all": lambda: attribute(torch.backends, "fp32_precision", "tf32"),
    "bf16 for all": lambda: attribute(torch.backends, "fp32_precision", "bf16"),
    "ieee for all": lambda: attribute(torch.backends, "fp32_precision", "ieee"),
    "bf16 in oneDNN": lambda: backend_precision("bf16"),
    "bf16 in oneDNN's convolutions": lambda: attribute(mkldnn.conv, "fp32_precision", "bf16"),
    "bf16 in oneDNN's products": lambda: attribute(mkldnn.matmul, "fp32_precision", "bf16"),
    "ieee in cuDNN": lambda: attribute(cudnn, "fp32_precision", "ieee"),
    "ieee in cuDNN's convolutions": lambda: attribute(cudnn.conv, "fp32_precision", "ieee"),
    "tf32 in CUDA's products": lambda: attribute(cuda.matmul, "fp32_precision", "tf32"),
    "the old flag of cuDNN": lambda: attribute(cudnn, "allow_tf32", False),
    "the old flag of CUDA": lambda: attribute(cuda.matmul, "allow_tf32", True),
    "no oneDNN": lambda: attribute(mkldnn, "enabled", False),
    "one thread": lambda: call(torch.set_num_threads, 1, torch.get_num_threads()),
    "three threads": lambda: call(torch.set_num_threads, 3, torch.get_num_threads()),
    "all of them": all_of_them,
}


def state():
    """All that a program can have set, and what it reads."""

    def read(getter):
        try:
            return getter()
        except RuntimeError as error:  # torch refuses to read old flags after new ones were set
            return str(error).split(",")[0]

    precisions = [torch.backends, mkldnn, mkldnn.conv, mkldnn.matmul, cudnn, cudnn.conv, cuda.matmul]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "precisions": [module.fp32_precision for module in precisions],
            "own precisions": own_precisions(),
            "matmul": read(torch.get_float32_matmul_precision),
            "cudnn": read(lambda: cudnn.allow_tf32),
            "cublas": read(lambda: cuda.matmul.allow_tf32),
            "mkldnn": (mkldnn.enabled, mkldnn.deterministic),
            "deterministic": torch.get_deterministic_debug_mode(),
            "dtype": torch.get_default_dtype(),
            "device": torch.get_default_device(),
            "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
            "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
            "threads": (torch.get_num_threads(), threads_of_a_new_thread()),
            "random": torch.get_rng_state().tolist(),
        }


def own_precisions():
    """Whether the operations of oneDNN follow the process's precision."""
    followed = []
    before = torch.backends.fp32_precision
    for value in ("ieee", "tf32", "bf16"):
        torch.backends.fp32_precision = value
        followed.append((mkldnn.fp32_precision, mkldnn.conv.fp32_precision, mkldnn.matmul.fp32_precision))
    torch.backends.fp32_precision = before
    return followed


def threads_of_a_new_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


SUPERNETS = {config: trained_looking(config) for config in (WIDE, KINDS[3])}
IMAGES = {config: (random_images(config, 16, 1), random_images(config, 24, 2)) for config in SUPERNETS}


KINDS_OF_EVALUATOR = {
    "wide": (WIDE, torch.float32),
    "bottleneck": (KINDS[3], torch.float32),
    "float64": (WIDE, torch.float64),
}


def make(config=WIDE, dtype=torch.float32):
    return InheritedEvaluator(SUPERNETS[config], *IMAGES[config], device="cpu", dtype=dtype)


def masks_of(evaluator, n=4):
    return np.random.default_rng(0).random((n, evaluator.topology.size)) < 0.5


@pytest.fixture(scope="module")
def expected():
    """In a program that has set nothing."""
    before, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    for config, dtype in KINDS_OF_EVALUATOR.values():
        evaluator = make(config, dtype)
        masks = masks_of(evaluator)
        found[config, dtype] = evaluator.evaluate(masks), evaluator.logits(masks[0]), evaluator.fingerprint
    torch.set_num_threads(before)
    return found


@pytest.mark.parametrize(
    ("config", "dtype"),
    [(pytest.param if name == "wide" else slow)(*made, id=name) for name, made in KINDS_OF_EVALUATOR.items()],
)
@pytest.mark.parametrize("context", CONTEXTS)
def test_an_evaluator_does_not_depend_on_its_caller(context, config, dtype, threads, expected):
    made_before, made_within = make(config, dtype), None
    masks = masks_of(made_before)
    metrics, logits, fingerprint = expected[config, dtype]
    with CONTEXTS[context]():
        before = state()
        made_within = make(config, dtype)
        for evaluator in (made_before, made_within):
            assert evaluator.evaluate(masks) == metrics
            found = evaluator.logits(masks[0])
            assert state() == before
            assert torch.equal(found.cpu(), logits) and not found.is_inference()
        assert made_within.fingerprint == fingerprint
    assert made_within.evaluate(masks[::-1]) == metrics[::-1]


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """What a program that has set nothing loads, inherits and folds; and where it is saved."""
    path = tmp_path_factory.mktemp("saved") / "net"
    task = Task.load("digits")
    architecture = Architecture(task.config, np.arange(45) % 3 > 0)
    network = task.inherit(architecture)
    save(network, path)
    score = measure(network, task.images(Split.VALID))
    return architecture, path, task.supernet().state_dict(), network.state_dict(), fold(network).state_dict(), score


@pytest.mark.parametrize("context", [name for name in CONTEXTS if "thread" not in name])
def test_networks_do_not_depend_on_their_caller(context, networks):
    architecture, path, supernet, inherited, folded, score = networks
    task = Task.load("digits")
    with CONTEXTS[context]():
        before = state()
        made = task.supernet(), task.inherit(architecture), ads_gym.load(path)
        found = measure(made[1], task.images(Split.VALID))
        assert state() == before
        again = fold(made[2])
    for network, same in zip((*made, again), (supernet, inherited, inherited, folded), strict=True):
        for name, tensor in network.state_dict().items():
            assert tensor.dtype == same[name].dtype and tensor.device == CPU and not tensor.is_inference()
            assert torch.equal(tensor, same[name])
    assert found == score
    assert all(parameter.requires_grad for network in made for parameter in network.parameters())
    assert all(not network.training for network in made)


@pytest.mark.parametrize("context", [name for name in CONTEXTS if "default" in name or "meta" in name])
def test_a_new_network_is_float32_on_the_cpu(context):
    config = KINDS[4]
    torch.manual_seed(0)
    drawn = DenseNet(config).state_dict()
    images = torch.rand(2, *config.image_shape)
    mask = np.arange(4) % 2 > 0
    with CONTEXTS[context]():
        torch.manual_seed(0)
        network = DenseNet(config)
        sparse = build_sparse(Architecture(config, mask), network.eval())
        logits = network(images, mask)
        assert torch.equal(calibrate(sparse, images)(images).isfinite().cpu(), torch.ones_like(logits, device=CPU) > 0)
    assert logits.dtype is torch.float32 and logits.device == CPU
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, drawn[name]) and tensor.dtype == drawn[name].dtype


def test_a_thread_that_first_uses_torch_during_an_evaluation_keeps_its_threads(threads):
    evaluator, is_done, found = make(), threading.Event(), []
    masks = masks_of(evaluator, 24)
    expected = evaluator.evaluate(masks)
    evaluator.close()

    def start_threads():
        while not is_done.is_set():
            found.append(threads_of_a_new_thread())

    application = threading.Thread(target=start_threads)
    application.start()
    try:
        for _ in range(10):
            assert evaluator.evaluate(masks) == expected
            evaluator.close()
    finally:
        is_done.set()
        application.join()
    assert len(found) > 50 and set(found) == {threads} and torch.get_num_threads() == threads


def test_evaluators_in_several_threads_at_once(threads, expected):
    evaluators = [make(config) for config in SUPERNETS for _ in range(2)]
    masks = [masks_of(evaluator) for evaluator in evaluators]

    def run(index):
        with CONTEXTS[["nothing", "autocast", "no grad", "with meta"][index % 4]]():
            found = [evaluators[index % 4].evaluate(masks[index % 4]) for _ in range(5)]
            return found, torch.get_num_threads()

    before = state()
    with mkldnn.flags(enabled=False, deterministic=None, allow_tf32=None), ThreadPoolExecutor(4) as pool:
        within = state()
        results = list(pool.map(run, range(12)))
        assert state() == within
    assert state() == before
    for index, (found, number) in enumerate(results):
        assert found == [expected[evaluators[index % 4].config, torch.float32][0]] * 5 and number == threads


def test_a_setting_that_is_changed_meanwhile_stays_changed():
    from ads_gym.torch_state import isolated

    with attribute(mkldnn, "enabled", False), attribute(mkldnn.conv, "fp32_precision", "bf16"):
        with isolated(CPU):
            assert mkldnn.enabled and mkldnn.conv.fp32_precision == "ieee"
            mkldnn.conv.fp32_precision = "tf32"
            with isolated(CPU):  # the next computation is exact again
                assert mkldnn.conv.fp32_precision == "ieee"
            assert mkldnn.enabled and mkldnn.conv.fp32_precision == "ieee"  # until the last one ends
        assert not mkldnn.enabled and mkldnn.conv.fp32_precision == "tf32"
        with isolated(CPU):
            mkldnn.conv.fp32_precision = "bf16"
        assert mkldnn.conv.fp32_precision == "bf16"


def test_settings_are_restored_after_an_error():
    evaluator = make()
    with attribute(mkldnn, "enabled", False):
        before = state()
        with pytest.raises(TypeError):
            evaluator.evaluate_checked(np.array([[None]]), 1)
        evaluator._labels = evaluator._labels[:3]
        with pytest.raises(InvalidValue):
            evaluator.evaluate(masks_of(evaluator))
        assert state() == before


def test_a_closed_evaluator_opens_again_and_one_that_is_dropped_ends_its_threads(threads):
    number = threading.active_count()
    evaluator = make()
    masks = masks_of(evaluator)
    expected = evaluator.evaluate(masks)
    assert threading.active_count() == number + (threads if threads > 1 else 0)
    for _ in range(3):  # the same threads
        evaluator.evaluate(masks)
    assert threading.active_count() == number + (threads if threads > 1 else 0)
    evaluator.close()
    assert threading.active_count() == number
    assert evaluator.evaluate(masks) == expected
    del evaluator
    for _ in range(100):
        if threading.active_count() == number:
            break
        threading.Event().wait(0.05)
    assert threading.active_count() == number


def test_an_evaluator_pickles_as_its_arguments(threads):
    evaluator = make()
    masks = masks_of(evaluator)
    size = len(pickle.dumps(evaluator))
    expected = evaluator.evaluate(masks)
    pickled = pickle.dumps(evaluator)
    weights = sum(tensor.nbytes for tensor in evaluator._arguments[0].state_dict().values())
    images = sum(data.images.nbytes + data.labels.nbytes for data in evaluator._arguments[1:3])
    assert len(pickled) == size < weights + images + 40_000  # no feature maps
    copied = pickle.loads(pickled)
    assert copied.evaluate(masks) == expected and copied.provenance == evaluator.provenance
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(evaluator.evaluate, (masks,)) == expected


def test_later_training_of_the_supernet_changes_nothing():
    supernet = trained_looking(WIDE)
    evaluator = InheritedEvaluator(supernet, *IMAGES[WIDE], device="cpu")
    masks = masks_of(evaluator)
    expected = evaluator.evaluate(masks)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(1)
    assert evaluator.evaluate(masks) == expected == pickle.loads(pickle.dumps(evaluator)).evaluate(masks)


FORKED = """
import os, signal, sys
import gymnasium as gym, numpy as np, torch
import ads_gym
from ads_gym.errors import AdsGymError
from ads_gym.tasks import Task

torch.set_num_threads(int(sys.argv[1]))
task = Task.load("digits")
evaluator = task.evaluator(device="cpu")
masks = np.random.default_rng(0).random((8, 45)) < 0.5
expected = evaluator.evaluate(masks)
torch.ones(10**6).exp_().sum()  # the application, on as many threads
if sys.argv[2] == "AsyncVectorEnv":
    signal.alarm(60)
    envs = gym.make_vec("DenseNetSparsify-v0", 2, task="digits", device="cpu", vectorization_mode="async")
    try:
        envs.reset(seed=0)
        print([bool(envs.step(np.ones(2, int))[2].all()) for _ in range(45)][-1])
        envs.close()
    except AdsGymError as error:  # of the child
        print(error)
elif os.fork() == 0:
    signal.alarm(30)
    try:
        print(evaluator.evaluate(masks) == expected)
    except AdsGymError as error:
        print(error)
    sys.stdout.flush()
    os._exit(0)
else:
    os.wait()
assert evaluator.evaluate(masks) == expected
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize(
    ("number", "says", "way"),
    [
        (1, "True", "fork"),
        slow(2, "start processes by spawn", "AsyncVectorEnv"),
        slow(1, "True", "AsyncVectorEnv"),
        slow(2, "start processes by spawn", "fork"),
    ],
)
def test_a_forked_process_says_what_to_do_and_does_not_hang(number, says, way):
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(number), way], capture_output=True, text=True, timeout=120, check=True
    )
    assert says in done.stdout
