"""The gate on a pipeline: an image network whose features a classical classifier judges."""

import numpy as np
import pytest
from balanced_network import balanced_network
from model_makers import LABELS, SIZE

from pytest_quantguard.quiet import import_coremltools


def pipeline_of(network):
    """The network without its softmax, and a linear classifier that is the softmax."""
    ct = import_coremltools()
    source = network.get_spec()
    spec = ct.proto.Model_pb2.Model(specificationVersion=4)
    extractor, classifier = (
        spec.pipelineClassifier.pipeline.models.add(),
        spec.pipelineClassifier.pipeline.models.add(),
    )

    extractor.specificationVersion = classifier.specificationVersion = 4
    extractor.description.input.add().CopyFrom(source.description.input[0])
    extractor.neuralNetwork.layers.extend(source.neuralNetworkClassifier.layers[:-1])
    extractor.neuralNetwork.preprocessing.extend(source.neuralNetworkClassifier.preprocessing)
    features = extractor.description.output.add(name=extractor.neuralNetwork.layers[-1].output[0])
    features.type.multiArrayType.shape.append(len(LABELS))
    features.type.multiArrayType.dataType = features.type.multiArrayType.DOUBLE

    classifier.description.input.add().CopyFrom(features)
    for row in np.eye(len(LABELS))[1:] - np.eye(len(LABELS))[0]:
        classifier.glmClassifier.weights.add().value.extend(row)
    classifier.glmClassifier.offset.extend([0.0] * (len(LABELS) - 1))
    classifier.glmClassifier.stringClassLabels.vector.extend(LABELS)

    spec.description.input.add().CopyFrom(source.description.input[0])
    for description in (classifier.description, spec.description):
        description.output.add(name="label").type.stringType.SetInParent()
        description.output.add(name="shares").type.dictionaryType.stringKeyType.SetInParent()
        description.predictedFeatureName, description.predictedProbabilitiesName = "label", "shares"
    assert source.description.input[0].type.imageType.width == SIZE
    return ct.models.MLModel(spec, skip_model_load=True)


@pytest.fixture
def pipeline_project(gate):
    """The project with the pipeline as its model, which answers what the network would."""

    def write(bits):
        project = gate(bits=bits, mode="linear")
        (project.path / "model.mlmodel").unlink()
        pipeline_of(balanced_network()).save(str(project.path / "model.mlmodel"))
        return project

    return write


def test_a_pipeline_is_quantized_measured_and_gated(pipeline_project):
    project = pipeline_project(bits=8)
    project.runpytest_inprocess("--snapshot-update").assert_outcomes(passed=1)
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["model.mlmodel *8-bit linear*passed"])

    result = pipeline_project(bits=1).runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["1-bit linear: collapsed, the model answers 'apple' for 72 of 72 samples*"])
