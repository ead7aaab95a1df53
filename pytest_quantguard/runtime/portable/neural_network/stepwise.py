"""Running a network step by step (`steps.py`): onnxruntime computes the layers, Python decides which.

Each run of layers is translated when it is first reached, for the shapes that its inputs have then, so that shapes
may depend on values and may change from one iteration of a loop to the next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import PredictionError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.runtime.portable.neural_network.inputs import input_blob
from pytest_quantguard.runtime.portable.neural_network.layers.constant import constant_array
from pytest_quantguard.runtime.portable.neural_network.network import Network
from pytest_quantguard.runtime.portable.neural_network.outputs import output_blobs
from pytest_quantguard.runtime.portable.neural_network.registry import read_layer, step_function
from pytest_quantguard.runtime.portable.neural_network.step_graphs import SCORES, StepGraphs, Tensors
from pytest_quantguard.runtime.portable.neural_network.steps import (
    BranchStep,
    GraphStep,
    JumpStep,
    LoopStep,
    NumpyStep,
    Steps,
    constants,
    divide,
    needed,
)
from pytest_quantguard.runtime.portable.translation import LoadGraph, Translation

# A prediction of more iterations, over all loops, is taken for one that never ends.
_MOST_ITERATIONS = 100_000

# Conditions up to this count as 0 (specification: `BranchLayerParams`).
_ZERO = 1e-6


class _Jump(Exception):
    """Ends an iteration of a loop, or the loop."""

    def __init__(self, *, leave: bool) -> None:
        super().__init__()
        self.leave = leave


@dataclass
class _Prediction:
    """What one prediction has computed so far."""

    tensors: Tensors
    iterations: int = 0


def translate_stepwise(spec: Any, shapes: Mapping[str, Sequence[int]], model: str) -> Translation:
    """A translation that runs step by step; the arguments are those of `translator.translate`.

    The ONNX model only turns the inputs into the tensors that the layers see. What has to be refused because of a
    shape is refused when its step is reached.
    """
    description = describe(spec)
    network = getattr(spec, description.kind)
    entry = Network(model)
    tensors = {}
    for feature in description.inputs:
        blob = input_blob(entry, network, feature, shapes.get(feature.name), model)
        tensors[feature.name] = entry.graph.output(entry.exact(blob), feature.name, "float32")
    outputs, scores = output_blobs(network, description)

    def stepwise(session: Any, load: LoadGraph) -> StepwiseNetwork:
        return StepwiseNetwork(spec, session, tensors, load, model=model)

    return Translation(
        onnx_model=entry.graph.build(),
        inputs=entry.inputs,
        outputs={name: name for name in outputs},
        scores=SCORES if scores else None,
        stepwise=stepwise,
    )


class StepwiseNetwork:
    """Runs like an onnxruntime session: `run(names, feeds)`, from several threads at once.

    Args:
        spec: the parsed `Model` message.
        entry: the session that turns the model's inputs into the tensors that the layers see.
        tensors: the entry's outputs by the tensors' names in the file.
        load: makes a session of an ONNX model.
        model: the model's name, for errors.
    """

    def __init__(self, spec: Any, entry: Any, tensors: Mapping[str, str], load: LoadGraph, *, model: str) -> None:
        self._model, self._entry, self._tensors = model, entry, tensors
        self._description = describe(spec)
        self._network = getattr(spec, self._description.kind)
        outputs, scores = output_blobs(self._network, self._description)
        self._results = [*outputs, *([scores] if scores else [])]
        fixed = constants(self._network)
        self._graphs = StepGraphs(model, fixed, load)
        self._steps = divide(self._network, fixed, model)
        self._needed = needed(self._steps) | set(self._results)
        # Constants that control flow and numpy read; graphs have their own.
        self._constants = {
            name: constant_array(read_layer(fixed[name], model)) for name in self._needed & fixed.keys()
        }

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of these names.

        Raises:
            UnsupportedModelError: a step cannot be computed for the shapes that its inputs have.
            PredictionError: a condition is no single number, or loops go on for too long.
        """
        values = self._entry.run(list(self._tensors.values()), feeds)
        prediction = _Prediction(dict(zip(self._tensors, values, strict=True)))
        self._run_steps(self._steps, prediction)
        found = self._graphs.finish(self._network, self._description, prediction.tensors, self._results)
        return [found[name] for name in names]

    def _run_steps(self, steps: Steps, prediction: _Prediction) -> None:
        for step in steps:
            if isinstance(step, GraphStep):
                start = 0
                while start < len(step.layers):
                    start = self._graphs.compute(
                        step, start, prediction.tensors, self._needed, prediction.iterations
                    )
            elif isinstance(step, NumpyStep):
                self._run_numpy(step, prediction)
            elif isinstance(step, BranchStep):
                holds = abs(self._number(step.condition, prediction)) > _ZERO
                self._run_steps(step.then if holds else step.otherwise, prediction)
            elif isinstance(step, LoopStep):
                self._run_loop(step, prediction)
            elif isinstance(step, JumpStep):
                raise _Jump(leave=step.leave)

    def _run_numpy(self, step: NumpyStep, prediction: _Prediction) -> None:
        inputs = [self._tensor(name, prediction) for name in step.message.input]
        results = step_function(step.layer, len(inputs))(step.layer, *inputs)
        if len(results) != step.layer.outputs:
            raise PredictionError(
                f"{self._model}: layer {step.layer.name!r} has {step.layer.outputs} outputs, but {len(results)} "
                "were computed."
            )
        prediction.tensors.update(zip(step.message.output, results, strict=True))

    def _run_loop(self, step: LoopStep, prediction: _Prediction) -> None:
        """The three forms of `LoopLayerParams`, in the order of its pseudocode."""
        limit = step.limit
        if isinstance(limit, str):
            limit = int(np.nan_to_num(self._number(limit, prediction)))
        done = 0
        while self._goes_on(step, prediction) and (limit is None or done < limit):
            done += 1
            prediction.iterations += 1
            if prediction.iterations > _MOST_ITERATIONS:
                raise PredictionError(
                    f"{self._model}: layer {step.name!r}: the loops ran for {_MOST_ITERATIONS} iterations without "
                    "an end; check the condition."
                )
            try:
                self._run_steps(step.body, prediction)
            except _Jump as jump:
                if jump.leave:
                    return

    def _goes_on(self, step: LoopStep, prediction: _Prediction) -> bool:
        if not step.variable:
            return True
        self._run_steps(step.condition, prediction)
        return abs(self._number(step.variable, prediction)) > _ZERO

    def _tensor(self, name: str, prediction: _Prediction) -> NDArray[Any]:
        found = prediction.tensors.get(name, self._constants.get(name))
        if found is None:
            raise PredictionError(f"{self._model}: {name!r} is read before a layer has computed it.")
        return found

    def _number(self, name: str, prediction: _Prediction) -> float:
        """The value of a tensor of one element."""
        tensor = self._tensor(name, prediction)
        if tensor.size != 1:
            raise PredictionError(
                f"{self._model}: {name!r} of shape {tensor.shape} is no single number, as a condition has to be."
            )
        return float(tensor.reshape(()))
