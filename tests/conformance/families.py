"""Which of coremltools' own tests are run, into which families they fall, and which of them are the sample."""

import zlib
from collections import defaultdict

FILES = (
    "test/neural_network/test_numpy_nn_layers.py",
    "test/neural_network/test_simple_nn_inference.py",
    "test/neural_network/test_neural_networks.py",
    "test/neural_network/test_nn_builder.py",
    "test/neural_network/test_custom_neural_nets.py",
    "test/neural_network/test_compiled_model.py",
    "test/neural_network/test_model.py",
    "test/neural_network/test_quantization.py",
    "converters/mil/mil/ops/tests",
    "converters/mil/frontend/torch/test/test_torch_ops.py",
)
"""Files and folders inside the coremltools package."""

SLOW = (
    "IOS14SingleLayerTests::test_conv3d_cpu_slow",
    "IOS14SingleLayerTests::test_conv3d_gpu_slow",
    "CoreML3NetworkStressTest::test_static_weight_conv2d_stress",
    "CoreML3NetworkStressTest::test_dyn_weight_conv2d_stress",
)
"""Tests that try thousands of convolutions, and take longer than the whole sample; they are not in it."""

# Both spellings of a test's parameters: BackendConfig(...) and the older tuple.
_BACKENDS = {
    "neural network": ("backend='neuralnetwork'", "('neuralnetwork', "),
    "float16": ("backend='mlprogram', precision='fp16'", "('mlprogram', 'fp16'"),
    "float32": ("backend='mlprogram', precision='fp32'", "('mlprogram', 'fp32'"),
}


def family(test: str) -> str:
    """The family of a test, by its id relative to the coremltools package."""
    path, _, name = test.partition("::")
    if path.startswith("test/neural_network/"):
        return "layers" if path == FILES[0] else "neural network models"
    kind = "MIL operations" if "/mil/ops/" in path else "PyTorch operations"
    return f"{kind}, {_backend(name)}"


def _backend(name: str) -> str:
    for backend, marks in _BACKENDS.items():
        if any(mark in name for mark in marks):
            return backend
    return "other"


def in_sample(tests: list[str], per_function: int) -> set[str]:
    """A fixed part of the tests: some of every test function in every family.

    Which ones depends on the test's own id only, so a test stays in the sample when others come or go.

    Args:
        tests: all ids.
        per_function: how many of each function and family; the layers' tests are few, and all of them count.
    """
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for test in tests:
        if not test.endswith(SLOW):
            groups[test.partition("[")[0], family(test)].append(test)
    chosen: set[str] = set()
    for (_, name), group in groups.items():
        keep = len(group) if name == "layers" else per_function
        chosen.update(sorted(group, key=_hash)[:keep])
    return chosen


def in_shard(test: str, shard: str) -> bool:
    """Whether a test is in the part `i/n` of all tests, i from 1 to n."""
    part, _, parts = shard.partition("/")
    return _hash(test) % int(parts) == int(part) - 1


def _hash(test: str) -> int:
    return zlib.crc32(test.encode())
