"""The portable engine: a Core ML file as an ONNX graph, run by onnxruntime on any platform."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import PredictionError, UnsupportedModelError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.models.description import ArrayFeature, ImageFeature
from pytest_quantguard.models.files import SpecSource
from pytest_quantguard.models.functions import select_function
from pytest_quantguard.runtime.engine import Outputs, State
from pytest_quantguard.runtime.heap import returning_memory
from pytest_quantguard.runtime.portable.answers import as_outputs, as_prediction
from pytest_quantguard.runtime.portable.arithmetic import as_type, ieee, numbers
from pytest_quantguard.runtime.portable.constants_file import ConstantsFile
from pytest_quantguard.runtime.portable.feeds import InputReader
from pytest_quantguard.runtime.portable.sessions import make_session, onnxruntime_errors, reason
from pytest_quantguard.runtime.portable.shapes import Shape
from pytest_quantguard.runtime.portable.translation import StateTensor, Translation

NEURAL_NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
ML_PROGRAM = "mlProgram"

# Translations that are kept of a network with flexible inputs, besides the one for the described shapes.
_KEPT_SHAPES = 7

_NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class _Session:
    """A loaded graph, and which of its names stand for which of the model's."""

    runtime: Any
    inputs: Mapping[str, str]
    input_types: Mapping[str, str]
    outputs: Mapping[str, str]
    scores: str | None
    states: Mapping[str, StateTensor]


class PortableState:
    """The states of one model (protocol: `runtime.engine.State`), all zeros at first."""

    def __init__(self, shapes: Mapping[str, Shape], *, model: str) -> None:
        self._model = model
        self.arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}

    def read_state(self, name: str) -> NDArray[np.float32]:
        """A copy of a state's value."""
        return self._known(name).copy()

    def write_state(self, name: str, value: NDArray[Any]) -> None:
        """Set a state."""
        try:
            array = as_type(numbers(value), "float32")
        except (TypeError, ValueError) as error:
            raise PredictionError(f"{self._model}: state {name!r} takes an array of numbers ({error}).") from error
        if array.shape != self._known(name).shape:
            raise PredictionError(
                f"{self._model}: state {name!r} has the shape {self._known(name).shape}, not {array.shape}."
            )
        self.arrays[name] = array.copy()

    def _known(self, name: str) -> NDArray[np.float32]:
        if name not in self.arrays:
            valid = ", ".join(self.arrays) or "none"
            raise PredictionError(f"{self._model} has no state {name!r}; its states are: {valid}.")
        return self.arrays[name]


class PortableEngine:
    """Runs a neural network or an ML program (protocol: `runtime.engine.Engine`).

    Args:
        spec: the parsed `Model` message, or a `SpecSource` of it, which saves memory.
        weights_dir: the folder of an ML program's weight files; None for a neural network.
        name: what to call the model in errors.
        threads: threads of one prediction; predictions run side by side, so one is best.
        precision: one of `runtime.PRECISIONS`; neural networks are always computed in float32.
        function_name: which function of a package with several; None for the default one.

    Raises:
        UnsupportedModelError: the model's type, a layer or an operation is not supported; it is named.
        ModelFileError: the model is damaged.
    """

    def __init__(
        self,
        spec: Any,
        weights_dir: Path | None,
        *,
        name: str,
        threads: int = 1,
        precision: str = "float32",
        function_name: str | None = None,
    ) -> None:
        self._model = name
        self._threads = threads
        self._precision = precision
        message = select_function(self._message(spec), function_name, name=name)
        self._description = describe(message, name=name)
        self._kind = self._description.kind
        if self._kind not in (*NEURAL_NETWORKS, ML_PROGRAM):
            raise UnsupportedModelError(
                f"{name}: a model of type {self._kind!r} is not supported by the portable engine, which runs "
                "neural networks and ML programs."
            )
        self._network = self._kind in NEURAL_NETWORKS
        arrays = any(isinstance(feature, ArrayFeature) for feature in self._description.inputs)
        rank_five = self._network and arrays and getattr(message, self._kind).arrayInputShapeMapping == 0
        self._reader = InputReader(message, self._description, model=name, rank_five=rank_five)
        # Kept only where another shape may have to be translated: the message holds the weights.
        self._spec = spec if self._network and self._reader.flexible else None
        self._lock = threading.Lock()
        self._sessions: dict[Any, _Session] = {}
        self._described = self._key(self._reader.default_shapes)
        with returning_memory(), ConstantsFile() as file:
            try:
                translation = self._translate(message, weights_dir, self._reader.default_shapes, file)
            except UnsupportedModelError:
                # The described shape of a flexible input need not be one that the network can compute; then the
                # first sample decides. A layer type that has no translation is refused now.
                if self._spec is None or not (self._reader.varies or self._moves_sequence(message)):
                    raise
                self._check_layers(message)
            else:
                del message, spec
                self._sessions[self._described] = self._load(translation, file)

    @property
    def name(self) -> str:
        """The engine's name."""
        return "portable"

    @property
    def version(self) -> str:
        """What executes, with its version."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def make_state(self) -> PortableState:
        """A new state for `predict`; one without entries for a model that has no states."""
        states = self._sessions[self._described].states if self._kind == ML_PROGRAM else {}
        return PortableState({name: state.shape for name, state in states.items()}, model=self._model)

    def predict(self, inputs: Mapping[str, Any], state: State | None = None) -> dict[str, Any]:
        """Answer as coremltools' `MLModel.predict` does.

        Colour images are RGBA, gray ones L (or F), arrays of the declared type. Of a label that occurs twice the
        dictionary has the higher probability.

        Raises:
            PredictionError: an input is missing, unknown, or of the wrong shape or type, the run fails, or the
                state is not one of this model.
        """
        own = self.make_state()
        if state is None and own.arrays:
            raise PredictionError(
                f"{self._model} has states ({', '.join(own.arrays)}); give predict one made by make_state()."
            )
        if state is not None and (
            not isinstance(state, PortableState) or state.arrays.keys() != own.arrays.keys()
        ):
            raise PredictionError(f"{self._model}: the state is not one of this model; make it with make_state().")
        return as_prediction(self._description, self._run(inputs, state or own), model=self._model)

    def outputs(self, inputs: Mapping[str, Any]) -> Outputs:
        """Answer with arrays only, from a new state; takes the same inputs and raises what `predict` does."""
        return self._run(inputs, self.make_state())

    def _run(self, inputs: Mapping[str, Any], state: PortableState) -> Outputs:
        with ieee():
            return self._compute(inputs, state)

    def _compute(self, inputs: Mapping[str, Any], state: PortableState) -> Outputs:
        arrays = self._reader.read(inputs)
        session = self._session(arrays)
        feeds = {
            session.inputs[name]: array.astype(session.input_types[session.inputs[name]], copy=False)
            for name, array in arrays.items()
            if name in session.inputs
        }
        feeds |= {tensor.read: state.arrays[name] for name, tensor in session.states.items()}
        names = [*session.outputs.values(), *(tensor.written for tensor in session.states.values())]
        if session.scores:
            names.append(session.scores)
        try:
            values = dict(zip(names, session.runtime.run(names, feeds), strict=True))
        except onnxruntime_errors() as error:
            raise PredictionError(f"{self._model}: the run failed: {reason(error)}.") from error
        state.arrays |= {name: values[tensor.written] for name, tensor in session.states.items()}
        found = {name: values[output] for name, output in session.outputs.items()}
        scores = values[session.scores] if session.scores else None
        return as_outputs(self._description, found, scores, model=self._model)

    def _key(self, shapes: Mapping[str, Shape]) -> tuple[tuple[str, Shape], ...]:
        return tuple(sorted(shapes.items())) if self._network else ()

    def _session(self, arrays: Mapping[str, NDArray[Any]]) -> _Session:
        """The graph for the shapes of these inputs."""
        shapes = {name: _shape(self._description.inputs, name, array) for name, array in arrays.items()}
        key = self._key(shapes)
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                with returning_memory(), ConstantsFile() as file:
                    session = self._load(self._translate(self._message(self._spec), None, shapes, file), file)
                others = [kept for kept in self._sessions if kept != self._described]
                if len(others) >= _KEPT_SHAPES:
                    del self._sessions[others[0]]
                self._sessions[key] = session
        return session

    @staticmethod
    def _message(spec: Any) -> Any:
        return spec.take() if isinstance(spec, SpecSource) else spec

    def _translate(
        self, spec: Any, weights_dir: Path | None, shapes: Mapping[str, Shape], file: ConstantsFile
    ) -> Translation:
        if self._network:
            from pytest_quantguard.runtime.portable.neural_network import translator as networks

            return networks.translate(spec, name=self._model, input_shapes=shapes, file=file)
        from pytest_quantguard.runtime.portable.ml_program import translator as programs

        try:
            return programs.translate(spec, weights_dir, precision=self._precision, file=file)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{self._model}: {error}") from error

    def _check_layers(self, spec: Any) -> None:
        from pytest_quantguard.runtime.portable.neural_network import translator as networks

        networks.check_layers(spec, name=self._model)

    def _moves_sequence(self, spec: Any) -> bool:
        from pytest_quantguard.runtime.portable.neural_network import translator as networks

        return networks.moves_sequence(spec)

    def _load(self, translation: Translation, file: ConstantsFile) -> _Session:
        runtime = self._load_graph(file.save(translation.onnx_model))
        types = {entry.name: _NUMPY_TYPES[entry.type] for entry in runtime.get_inputs()}
        if translation.stepwise:
            runtime = translation.stepwise(runtime, self._load_graph)
        return _Session(
            runtime, translation.inputs, types, translation.outputs, translation.scores, translation.states
        )

    def _load_graph(self, onnx_model: bytes | Path) -> Any:
        """An onnxruntime session of a serialized graph, or of one in a file."""
        try:
            return make_session(onnx_model, threads=self._threads)
        except onnxruntime_errors() as error:
            raise UnsupportedModelError(
                f"{self._model} is not supported by the portable engine: onnxruntime does not load its graph "
                f"({reason(error)})."
            ) from error


def _shape(features: Any, name: str, array: NDArray[Any]) -> Shape:
    """The shape of an array, or (height, width) of an image."""
    image = any(feature.name == name and isinstance(feature, ImageFeature) for feature in features)
    return array.shape[2:] if image else array.shape
