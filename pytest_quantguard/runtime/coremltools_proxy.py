"""A stand-in for coremltools' link to Apple's framework, on the portable engine."""

import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from pytest_quantguard.errors import ModelFileError, PredictionError, QuantguardError, UnsupportedModelError
from pytest_quantguard.models.files import ModelFile, read_model_file
from pytest_quantguard.models.functions import select_function
from pytest_quantguard.runtime import PRECISIONS
from pytest_quantguard.runtime.model import make_engine

SPECIFICATION_VERSION = 10
"""The newest model specification that is executed: the one of iOS 26 and macOS 26."""


PREDICTION_FAILED = "(Unable to compute the prediction using ML Program.)"
"""What Apple's framework says of every prediction that fails, whatever the reason."""


class PortableProxy:
    """What coremltools takes for its binary link to Core ML (`coremltools.models.model._MLModelProxy`).

    `precision` holds for all models loaded from then on; one of `runtime.PRECISIONS`.

    Args:
        filename: path of a `.mlmodel` file, a `.mlpackage` folder, or what `compileModel` made of one.
        compute_units: ignored, as are the optimization hints: there is the processor only.
        function_name: which function of a package of several; empty for the default one.
        optimization_hints: see above.
        asset: a model in memory; not supported.

    Raises:
        RuntimeError: the model cannot be loaded; also an error of this project that says why.
    """

    precision: ClassVar[str] = PRECISIONS[0]

    def __init__(
        self,
        filename: str,
        compute_units: str,
        function_name: str,
        optimization_hints: Mapping[str, str],
        asset: Any = None,
    ) -> None:
        started = time.perf_counter_ns()
        with _runtime_errors():
            if asset is not None:
                raise UnsupportedModelError("A model asset is not supported by the portable engine; load a file.")
            self._path = Path(filename).absolute()
            file = _read(self._path)
            spec = select_function(file.spec, function_name or None, name=self._path.name)
            self._engine = make_engine(
                lambda: None,
                spec,
                file.weights_dir,
                name=self._path.name,
                engine="portable",
                precision=self.precision,
            )
        self._compiled: str | None = None
        self._load_duration = time.perf_counter_ns() - started
        self._predict_duration: int | None = None

    @staticmethod
    def maximum_supported_specification_version() -> int:
        """The newest model specification that is executed."""
        return SPECIFICATION_VERSION

    @staticmethod
    def compileModel(path: str) -> str:
        """A folder that `CompiledMLModel` loads: the model as it is, since there is nothing to compile."""
        source = Path(path)
        with _runtime_errors():
            if not source.exists():
                raise ModelFileError(f"There is no model at {path} to compile.")
        folder = Path(tempfile.mkdtemp(prefix=f"{source.stem}_", suffix=".mlmodelc"))
        try:
            _copy(source, folder)
        except OSError:
            shutil.rmtree(folder)
            raise
        return str(folder)

    def get_compiled_model_path(self) -> str:
        """A folder as `compileModel` makes it, which lives as long as this object."""
        if self._compiled is None:
            with _runtime_errors():
                if not self._path.exists():
                    raise ModelFileError(
                        f"The file {self._path.name} behind this model is gone; save the model, and call "
                        "compile_model with its path."
                    )
                self._compiled = self.compileModel(str(self._path))
            weakref.finalize(self, shutil.rmtree, self._compiled, ignore_errors=True)
        return self._compiled

    def get_load_duration_in_nano_seconds(self) -> int:
        """How long loading took."""
        return self._load_duration

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        """How long the last prediction took; None before the first."""
        return self._predict_duration

    def predict(self, data: Mapping[str, Any], state: "StateProxy | None" = None) -> dict[str, Any]:
        """The answer for one sample (`runtime.engine.Engine.predict`)."""
        started = time.perf_counter_ns()
        with _runtime_errors(PREDICTION_FAILED):
            answer = self._engine.predict(data, state.state if state else None)
        self._predict_duration = time.perf_counter_ns() - started
        return answer

    def batchPredict(self, batch: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The answers for several samples, in order."""
        started = time.perf_counter_ns()
        with _runtime_errors(PREDICTION_FAILED):
            answers = [self._engine.predict(data) for data in batch]
        self._predict_duration = time.perf_counter_ns() - started
        return answers

    def newState(self) -> "StateProxy":
        """A new state for `predict`."""
        with _runtime_errors():
            return StateProxy(self._engine.make_state())


class StateProxy:
    """What coremltools' `MLState` wraps: a state of the engine, with the errors that coremltools promises."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def read_state(self, name: str) -> NDArray[Any]:
        """The value of a state; raises RuntimeError for an unknown name."""
        with _runtime_errors():
            value: NDArray[Any] = self.state.read_state(name)
            return value

    def write_state(self, name: str, value: NDArray[Any]) -> None:
        """Set a state; raises RuntimeError for an unknown name or another shape."""
        with _runtime_errors():
            self.state.write_state(name, value)


def _read(path: Path) -> ModelFile:
    if path.suffix != ".mlmodelc":
        return read_model_file(path)
    inside = [path / f"model{suffix}" for suffix in (".mlmodel", ".mlpackage")]
    found = [part for part in inside if part.exists()]
    if not found:
        raise ModelFileError(
            f"{path} was not compiled here, and the portable engine cannot read what Apple's compiler writes; "
            "load the .mlmodel file or the .mlpackage folder that it was compiled from."
        )
    return read_model_file(found[0])


def _copy(source: Path, folder: Path) -> None:
    target = folder / f"model{source.suffix}"
    if source.is_dir():
        # A link stays a link: what it leads to could be anything, and loading refuses one that leads out.
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target)


class _UnsupportedModel(UnsupportedModelError, RuntimeError):
    pass


class _DamagedModel(ModelFileError, RuntimeError):
    pass


class _RefusedPrediction(PredictionError, RuntimeError):
    pass


@contextmanager
def _runtime_errors(after: str = "") -> Iterator[None]:
    """Raise this project's errors as RuntimeErrors, too: the kind that Apple's framework raises in coremltools.

    `after` is added to the message.
    """
    try:
        yield
    except QuantguardError as error:
        for kind in (_UnsupportedModel, _DamagedModel, _RefusedPrediction):
            if isinstance(error, kind.__bases__[0]):
                raise kind(f"{error} {after}".strip()) from error
        raise
