"""Everything in a model that the portable engine cannot run, and why."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.runtime.portable.engine import ML_PROGRAM, NEURAL_NETWORKS
from pytest_quantguard.runtime.portable.engines import portable_engine


def find_refusals(spec: Any, weights_dir: Path | None, *, name: str) -> list[str]:
    """Why the portable engine cannot run a model: empty if it can.

    The model is loaded as for a prediction. If that is refused, all layers and operations are looked at one by
    one; of what takes the output of a refused one only the type.

    Args:
        spec: the parsed `Model` message of a model that is no pipeline, of one function.
        weights_dir: the folder of the weight files of an ML program.
        name: what to call the model in the reasons.
    """
    try:
        portable_engine(spec, weights_dir, name=name)
    except (UnsupportedModelError, ModelFileError) as error:
        first = str(error)
    else:
        return []
    reasons = []
    try:
        for reason in _parts(spec, weights_dir, name):
            reasons.append(reason)  # one by one, to keep those before an error
    except (UnsupportedModelError, ModelFileError) as error:
        reasons.append(str(error))
    return list(dict.fromkeys([*reasons, first]))


def _parts(spec: Any, weights_dir: Path | None, name: str) -> Iterator[str]:
    from pytest_quantguard.runtime.portable.ml_program import translator as programs

    kind = spec.WhichOneof("Type")
    if kind in NEURAL_NETWORKS:
        network = getattr(spec, kind)
        yield from _layer_types(network, name)
        yield from _layers(spec, network, name)
    elif kind == ML_PROGRAM:
        yield from (f"{name}: {reason}" for reason in programs.find_refusals(spec, weights_dir))


def _layer_types(network: Any, name: str, *, in_loop: bool = False) -> Iterator[str]:
    """The layers whose type does not run, also in branches and loops."""
    from pytest_quantguard.runtime.portable.neural_network.steps import check_network

    for message in network.layers:
        kind = message.WhichOneof("layer")
        if kind == "branch":
            yield from _layer_types(message.branch.ifBranch, name, in_loop=in_loop)
            yield from _layer_types(message.branch.elseBranch, name, in_loop=in_loop)
        elif kind == "loop":
            yield from _layer_types(message.loop.conditionNetwork, name)
            yield from _layer_types(message.loop.bodyNetwork, name, in_loop=True)
        else:
            try:
                check_network(SimpleNamespace(layers=[message]), name, in_loop=in_loop)
            except UnsupportedModelError as error:
                yield str(error)


def _layers(spec: Any, network: Any, name: str) -> Iterator[str]:
    """The layers that refuse a parameter or a shape, in a network that is one graph, for the described shapes."""
    from pytest_quantguard.runtime.portable.neural_network.assemble import add_layer
    from pytest_quantguard.runtime.portable.neural_network.inputs import input_blob
    from pytest_quantguard.runtime.portable.neural_network.network import Blob, Network
    from pytest_quantguard.runtime.portable.neural_network.registry import OpenShapeError
    from pytest_quantguard.runtime.portable.neural_network.steps import needs_steps

    if needs_steps(network.layers):
        return
    net, blobs = Network(name), dict[str, Blob]()
    for feature in describe(spec).inputs:
        blobs[feature.name] = input_blob(net, network, feature, None, name)
    missing: set[str] = set()
    for message in network.layers:
        if not missing & set(message.input):
            try:
                add_layer(net, message, blobs, name)
                continue
            except OpenShapeError:
                pass  # may run, step by step
            except UnsupportedModelError as error:
                yield str(error)
        missing.update(message.output)
