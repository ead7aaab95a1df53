"""A model that is read and can be executed."""

import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.models.artifact import save_model, serialize
from pytest_quantguard.models.describe import describe
from pytest_quantguard.models.description import Label, ModelDescription
from pytest_quantguard.models.files import ModelFile, SpecSource, read_again, read_model_file
from pytest_quantguard.models.functions import select_function
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime import ENGINES, PRECISIONS
from pytest_quantguard.runtime.engine import Engine, Outputs, State
from pytest_quantguard.runtime.heap import returning_memory


@dataclass(frozen=True, eq=False)
class Model:
    """A Core ML model that is read and can be executed.

    Args:
        name: the file's name, without folders; a quantized model keeps the name of its float model.
        open_mlmodel: returns the coremltools `MLModel` behind it.
        description: inputs, outputs and labels.
        engine: what executes it.
        size_bytes: bytes of the `.mlmodel` file, or of the specification and weights in a `.mlpackage`.
        digest: SHA-256 (hexadecimal) over the same bytes.
        precision: how the portable engine computes ML programs, one of `runtime.PRECISIONS`.
        function_name: which function of a package with several; None for the default one.
    """

    name: str
    open_mlmodel: Callable[[], Any]
    description: ModelDescription
    engine: Engine
    size_bytes: int
    digest: str
    precision: str
    function_name: str | None

    @property
    def mlmodel(self) -> Any:
        """The coremltools `MLModel` behind it; that of a file is made when it is first asked for.

        Raises:
            ModelFileError: the file is gone or has changed since it was loaded.
        """
        return self.open_mlmodel()

    @property
    def labels(self) -> tuple[Label, ...] | None:
        """The class labels in the order of the probabilities; None for a model that is no classifier."""
        return self.description.labels

    def make_state(self) -> State:
        """A new state, all zeros, for `predict`."""
        return self.engine.make_state()

    def predict(self, inputs: Mapping[str, Any], state: State | None = None) -> dict[str, Any]:
        """Answer as coremltools' `MLModel.predict` does.

        Args:
            inputs: by input name: PIL images for image inputs, numpy arrays or numbers for the others.
            state: what a stateful model reads and updates, made by `make_state`.

        Returns:
            By output name: the label, a dictionary of probabilities by label, arrays, PIL images.

        Raises:
            PredictionError: an input is missing, unknown, or of the wrong shape or type, or a stateful model got
                no state.
        """
        return self.engine.predict(inputs, state)

    def outputs(self, inputs: Mapping[str, Any]) -> Outputs:
        """Answer with arrays only, for measuring; takes the same inputs as `predict`."""
        return self.engine.outputs(inputs)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model to a `.mlmodel` file or a `.mlpackage` folder and return its path.

        Raises:
            ModelFileError: the path exists and `overwrite` is false, or cannot be written.
        """
        return save_model(self.mlmodel, path, overwrite=overwrite)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {self.size_bytes} bytes, engine {self.engine.name}>"


def load_model(
    model: str | Path | Any, *, engine: str = "auto", precision: str = "float32", function_name: str | None = None
) -> Model:
    """Read a Core ML model and make it executable.

    Args:
        model: path of a `.mlmodel` file or a `.mlpackage` folder, a coremltools `MLModel`, or a `Model`, which
            is returned as it is.
        engine: `coreml` (Apple's framework, macOS only), `portable` (onnxruntime, anywhere), or `auto`: coreml
            on macOS and portable elsewhere.
        precision: how the portable engine computes ML programs: `float32`, or `float16`, which rounds each
            float16 tensor to float16. Apple's framework decides for itself.
        function_name: which function of a package with several; None for the default one.

    Raises:
        ModelFileError: there is no such file, it is no Core ML model, or it has no such function.
        UnsupportedModelError: the engine cannot run it; the message names the layer or operation.
    """
    if isinstance(model, Model):
        return model
    if not isinstance(model, str | Path):
        return from_mlmodel(model, name="model", engine=engine, precision=precision, function_name=function_name)
    with returning_memory():
        return _load(Path(model), engine, precision, function_name)


def _load(path: Path, engine: str, precision: str, function_name: str | None) -> Model:
    file = read_model_file(path)
    name = file.path.name
    spec = SpecSource(file, function_name)
    open_mlmodel = _LateModel(file.path, file.digest, choose_engine(engine), function_name)
    size_bytes, digest, weights_dir = file.size_bytes, file.digest, file.weights_dir
    # From here on `spec` alone holds the weights of a neural network, and gives them up when they are translated.
    del file
    runs = make_engine(
        open_mlmodel, spec, weights_dir, name=name, engine=engine, precision=precision, function_name=function_name
    )
    return Model(name, open_mlmodel, spec.description, runs, size_bytes, digest, precision, function_name)


def from_mlmodel(
    mlmodel: Any,
    *,
    name: str,
    engine: str = "auto",
    precision: str = "float32",
    function_name: str | None = None,
    note: str = "",
) -> Model:
    """Make a coremltools `MLModel` executable; takes and raises what `load_model` does.

    Size and digest are those of the file that `save_model` writes with `note`.
    """
    if not hasattr(mlmodel, "get_spec"):
        raise ModelFileError(f"{mlmodel!r} is no model; give a path, a coremltools MLModel or a Model.")
    spec = select_function(mlmodel.get_spec(), function_name, name=name)
    weights_dir = Path(mlmodel.weights_dir) if mlmodel.weights_dir else None
    size_bytes, digest = serialize(mlmodel, note)
    description = describe(spec, name=name)
    runs = make_engine(
        lambda: mlmodel,
        spec,
        weights_dir,
        name=name,
        engine=engine,
        precision=precision,
        function_name=function_name,
    )
    return Model(name, lambda: mlmodel, description, runs, size_bytes, digest, precision, function_name)


def choose_engine(engine: str) -> str:
    """`coreml` or `portable` for one of `ENGINES`.

    Raises:
        UnsupportedModelError: there is no such engine.
    """
    if engine not in ENGINES:
        raise UnsupportedModelError(f"engine={engine!r} does not exist; use one of {', '.join(ENGINES)}.")
    if engine == "auto":
        return "coreml" if sys.platform == "darwin" else "portable"
    return engine


def make_engine(
    open_mlmodel: Callable[[], Any],
    spec: Any,
    weights_dir: Path | None,
    *,
    name: str,
    engine: str,
    precision: str = "float32",
    function_name: str | None = None,
) -> Engine:
    """The engine that runs a model.

    Args:
        open_mlmodel: returns the coremltools `MLModel`, for Apple's framework.
        spec: the `Model` message, with the chosen function only (`models.functions.select_function`), or a
            `SpecSource` of it.
        weights_dir: the folder of the weight files of ML programs; None where there is none.
        name: what to call the model in errors.
        engine: see `load_model`.
        precision: see `load_model`.
        function_name: the function that was chosen.

    Raises:
        UnsupportedModelError: the engine cannot run the model on this machine, or there is no such precision.
    """
    if precision not in PRECISIONS:
        raise UnsupportedModelError(f"precision={precision!r} does not exist; use one of {', '.join(PRECISIONS)}.")
    if choose_engine(engine) == "coreml":
        from pytest_quantguard.runtime.coreml import CoreMLEngine

        return CoreMLEngine(open_mlmodel(), name=name, function_name=function_name)
    from pytest_quantguard.runtime.portable.engines import portable_engine

    return portable_engine(spec, weights_dir, name=name, precision=precision)


class _LateModel:
    """The coremltools model of a file, made from its parts when it is first asked for.

    Given a package's path, coremltools would write the package's `Manifest.json` anew. It also holds a copy of the
    weights, which is why it waits.
    """

    def __init__(self, path: Path, digest: str, engine: str, function_name: str | None) -> None:
        # Absolute, because the working directory may change before the model is asked for.
        self._path, self._digest, self._engine, self._function = path.absolute(), digest, engine, function_name
        self._lock = threading.Lock()
        self._mlmodel: Any = None

    def __call__(self) -> Any:
        with self._lock:
            if self._mlmodel is None:
                self._mlmodel = self._open(read_again(self._path, self._digest))
            return self._mlmodel

    def _open(self, file: ModelFile) -> Any:
        coremltools = import_coremltools()
        weights_dir = str(file.weights_dir) if file.weights_dir else None
        with quiet(), tempfile.TemporaryDirectory() as empty:
            if weights_dir is None and file.spec.WhichOneof("Type") == "mlProgram":
                weights_dir = empty  # coremltools wants a folder, even for a program without weights
            chosen = {"function_name": self._function} if self._function else {}
            return coremltools.models.MLModel(
                file.spec, weights_dir=weights_dir, skip_model_load=self._engine != "coreml", **chosen
            )
