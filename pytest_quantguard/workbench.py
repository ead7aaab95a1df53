"""What the tests of a session share: models, samples and outputs, each made once."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from pytest_quantguard.api import Model, QuantizedModel, compare_outputs, load_model, quantize_with
from pytest_quantguard.comparison import Comparison
from pytest_quantguard.config import Settings
from pytest_quantguard.cores import available_cores
from pytest_quantguard.inputs import InputSet, make_inputs
from pytest_quantguard.marker import MARKER, MarkerOptions
from pytest_quantguard.outputs import StreamedOutputs


class Workbench:
    """Makes models, samples and comparisons for the fixtures, and keeps them for the session.

    Of quantized models only the last is kept: tests of one scheme follow each other, and models are large.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[Any, Model] = {}
        self._inputs: dict[Any, InputSet] = {}
        self._float_outputs: dict[Any, StreamedOutputs] = {}
        self._comparisons: dict[Any, Comparison] = {}
        self._last_quantized: tuple[Any, QuantizedModel] | None = None
        self._keep: dict[int, Any] = {}

    def float_model(self, options: MarkerOptions | None, source: Any) -> Model:
        """The marker's model, else `source`: a path, an MLModel, a Model, or None where nothing is set."""
        model = self._chosen(options.model if options else None, source)
        if model is None:
            raise pytest.UsageError(
                "No model is given; set --quantguard-model or the ini entry quantguard-model, name one in the "
                "mark with model=, or override the fixture quantguard_model."
            )
        key = self._key(model)
        if key not in self._models:
            self._models[key] = load_model(model, engine=self._settings.engine, precision=self._settings.precision)
        return self._models[key]

    def quantized_model(self, options: MarkerOptions | None, model: Model) -> QuantizedModel:
        """`model` quantized with the marker's scheme."""
        options = _required(options)
        calibration = None
        if options.calibration is not None:
            settings = dataclasses.replace(self._effective(options), allow_unknown_labels=True)
            calibration = self._make_inputs(settings, self._settings.root / options.calibration, model)
        key = (model.digest, options.scheme, calibration and (calibration.samples.digest, settings.crop_and_scale))
        if self._last_quantized is None or self._last_quantized[0] != key:
            self._last_quantized = None  # frees the memory before the next one is made
            self._last_quantized = (key, quantize_with(model, options.scheme, calibration))
        return self._last_quantized[1]

    def samples(self, options: MarkerOptions | None, source: Any, model: Model) -> Any:
        """The marker's samples, else `source`: read as a SampleFolder, or the list as it is."""
        samples = self._chosen(options.samples if options else None, source)
        if samples is None:
            raise pytest.UsageError(
                "No samples are given; set --quantguard-samples or the ini entry quantguard-samples, name a "
                "folder in the mark with samples=, or override the fixture quantguard_samples."
            )
        inputs = self._make_inputs(self._effective(options), samples, model)
        return samples if inputs.folder is None else inputs.folder

    def comparison(
        self, options: MarkerOptions | None, model: Model, quantized: Model, samples: Any
    ) -> Comparison:
        """Every metric of the marker's scheme; the float model's answers are computed once a session."""
        options = _required(options)
        settings = self._effective(options)
        inputs = self._make_inputs(settings, samples, model)
        pair = (model.digest, inputs.samples.digest, inputs.samples.preprocessing)
        key = (*pair, quantized.digest, options.scheme, settings.max_drop)
        if key not in self._comparisons:
            if pair not in self._float_outputs:
                self._float_outputs[pair] = StreamedOutputs(model.engine, inputs)
            self._comparisons[key] = compare_outputs(
                model,
                quantized,
                inputs,
                float_outputs=self._float_outputs[pair],
                max_drop=settings.max_drop,
                workers=workers(),
            )
        return self._comparisons[key]

    def _make_inputs(self, settings: Settings, samples: Any, model: Model) -> InputSet:
        key = (self._key(samples), model.digest, settings.crop_and_scale, settings.allow_unknown_labels)
        if key not in self._inputs:
            inputs = make_inputs(
                samples,
                model.description,
                model_name=model.name,
                crop_and_scale=settings.crop_and_scale,
                allow_unknown_labels=settings.allow_unknown_labels,
            )
            self._inputs[key] = inputs
            if inputs.folder is not None:
                self._inputs[(self._key(inputs.folder), *key[1:])] = inputs
        return self._inputs[key]

    def _chosen(self, marked: str | Path | None, source: Any) -> Any:
        """What the marker names, else `source`; paths start at the root directory."""
        chosen = source if marked is None else marked
        return self._settings.root / chosen if isinstance(chosen, str | Path) else chosen

    def _effective(self, options: MarkerOptions | None) -> Settings:
        return options.settings(self._settings) if options else self._settings

    def _key(self, source: Any) -> Any:
        """A dictionary key; objects are told apart by identity and kept alive so that it stays theirs."""
        if isinstance(source, Path):
            return source
        self._keep[id(source)] = source
        return id(source)


def workers() -> int:
    """Samples to run side by side: this process's share of the cores."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, available_cores() // max(1, processes))


def _required(options: MarkerOptions | None) -> MarkerOptions:
    if options is None:
        raise pytest.UsageError(
            f"The fixtures quantized_model and comparison need a scheme; mark the test, for instance with "
            f"@pytest.mark.{MARKER}(bits=8, mode='kmeans_lut')."
        )
    return options
