"""Mutated models that are no networks: a clear error or an answer, and nothing else."""

import random

import numpy as np
import pytest
from feature_model_makers import add_tree, classifier_spec, make_pipeline, new_spec

from pytest_quantguard.errors import ModelFileError, PredictionError, UnsupportedModelError
from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine

THREE = ((3,), "DOUBLE")
MUTATIONS = 300


def trees():
    spec = classifier_spec("treeEnsembleClassifier", {"x": THREE}, ("a", "b"))
    spec.treeEnsembleClassifier.treeEnsemble.numPredictionDimensions = 1
    branch = {"feature": 1, "value": 0.25, "yes": 0.5, "no": {"feature": 0, "value": 1.0, "yes": 0.25, "no": 1.0}}
    add_tree(spec.treeEnsembleClassifier.treeEnsemble, branch, 0)
    return spec


def vectors():
    spec = new_spec("supportVectorRegressor", {"x": THREE}, {"y": "double"}, predicted="y")
    params = spec.supportVectorRegressor
    params.kernel.rbfKernel.gamma = 0.5
    for place in (1, 3):
        params.sparseSupportVectors.vectors.add().nodes.add(index=place, value=1.5)
    params.coefficients.alpha.extend([1.0, -1.0])
    return spec


def pipeline():
    scaler = new_spec("scaler", {"x": THREE}, {"z": THREE})
    scaler.scaler.scaleValue.append(2.0)
    classifier = classifier_spec("glmClassifier", {"z": THREE}, (1, 2))
    classifier.glmClassifier.weights.add().value.extend([1.0, 2.0, 3.0])
    classifier.glmClassifier.offset.append(0.5)
    return make_pipeline([scaler, classifier], {"x": THREE}, {"label": "int64"}, kind="pipelineClassifier")


def imputer():
    spec = new_spec("imputer", {"x": THREE}, {"y": THREE})
    spec.imputer.imputedDoubleArray.vector.extend([1.0, 2.0, 3.0])
    return spec


def mutated(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place, way = rng.randrange(len(data)), rng.random()
        if way < 0.7:
            data[place] = rng.randrange(256)
        elif way < 0.85:
            del data[place : place + 2]
        else:
            data[place:place] = b"\xff" * 8 + b"\x7f"
    return bytes(data)


@pytest.mark.parametrize("make", [trees, vectors, pipeline, imputer])
def test_mutated_models_give_an_answer_or_a_clear_error(make):
    from google.protobuf.message import DecodeError

    spec, rng, answers, errors = make(), random.Random(0), 0, 0
    data = spec.SerializeToString(deterministic=True)
    for _ in range(MUTATIONS):
        changed = type(spec)()
        try:
            changed.ParseFromString(mutated(data, rng))
        except DecodeError:
            continue
        if changed.WhichOneof("Type") is None:
            continue
        try:
            FeatureModelEngine(changed, None, name="model.mlmodel").outputs({"x": np.array([0.5, 0.1, 2.0])})
            answers += 1
        except (ModelFileError, PredictionError, UnsupportedModelError) as error:
            assert str(error).startswith("model.mlmodel")
            errors += 1
    assert answers > 3
    assert errors > 3
