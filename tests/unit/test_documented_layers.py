"""The list of neural network layers in docs/portable-engine.md."""

import re

from test_documented_operations import PAGE

from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.neural_network import layers  # noqa: F401
from pytest_quantguard.runtime.portable.neural_network.registry import supported_layers


def test_the_documentation_lists_the_layers_that_run():
    found = re.search(
        r"^(\d+) NeuralNetwork layers run:\n((?:[A-Za-z0-9, ]+\n)+)", PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert found, "the list is missing"
    names = re.split(r",\s+", found[2].strip())
    assert tuple(names) == supported_layers()
    assert len(names) == int(found[1])


def test_every_layer_of_the_specification_runs():
    import_coremltools()
    from coremltools.proto.NeuralNetwork_pb2 import NeuralNetworkLayer

    every = {field.name for field in NeuralNetworkLayer.DESCRIPTOR.oneofs_by_name["layer"].fields}
    assert set(supported_layers()) == every
