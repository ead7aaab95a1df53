"""A small ML program for tests of schemes, and what coremltools makes of it."""

import functools

import numpy as np

from pytest_quantguard.models.artifact import serialize
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.model import load_model

DATE = "com.github.apple.coremltools.conversion_date"


@functools.cache
def two_layers(target="iOS18", precision="float16", values=None):
    """A convolution of 2304 weights, 32 filters of 8 channels, and a linear operation of 6 x 512 weights.

    With `values`, the weights have only so many different ones.
    """
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    rng = np.random.default_rng(0)

    def some(*shape):
        if values:
            return rng.integers(values, size=shape).astype(np.float32)
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 8, 4, 4))], opset_version=ct.target[target])
        def program(x):
            x = mb.conv(x=x, weight=some(32, 8, 3, 3), pad_type="same", name="conv")
            x = mb.reshape(x=x, shape=(1, 512))
            return mb.linear(x=x, weight=some(6, 512), bias=np.ones(6, np.float32), name="dense")

        return ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target[target],
            compute_precision=ct.precision[precision.upper()],
            skip_model_load=True,
        )


def answers(mlmodel):
    """What the portable engine computes for a fixed input."""
    x = np.random.default_rng(1).normal(size=(1, 8, 4, 4)).astype(np.float32)
    return load_model(mlmodel, engine="portable").outputs({"x": x}).arrays


def contents(mlmodel, like=None):
    """Size and digest of a model, with the conversion date of another one."""
    ct = import_coremltools()
    spec = mlmodel.get_spec()
    if like is not None:
        spec.description.metadata.userDefined.pop(DATE, None)
        if DATE in like.user_defined_metadata:
            spec.description.metadata.userDefined[DATE] = like.user_defined_metadata[DATE]
    with quiet():
        return serialize(ct.models.MLModel(spec, weights_dir=mlmodel.weights_dir, skip_model_load=True))


def by_coremltools(program, calls):
    """Calls of coremltools one after the other, (function, configuration); all but the first compress jointly."""
    import_coremltools()
    import coremltools.optimize.coreml as cto

    for index, (function, config) in enumerate(calls):
        config = config if isinstance(config, cto.OptimizationConfig) else cto.OptimizationConfig(config)
        with quiet():
            program = getattr(cto, function)(program, config, joint_compression=index > 0)
    return program


def assert_decoded_alike(mlmodel):
    """The portable engine computes with the very weights that coremltools decodes."""
    import_coremltools()
    import coremltools.optimize.coreml as cto

    with quiet():
        decoded = cto.decompress_weights(mlmodel)
    np.testing.assert_equal(answers(mlmodel), answers(decoded))


def weights(mlmodel):
    """The values of the two large tensors, decoded by coremltools; that of the convolution first."""
    import_coremltools()
    import coremltools.optimize.coreml as cto

    with quiet():
        return [found.val for found in cto.get_weights_metadata(cto.decompress_weights(mlmodel), 2048).values()]
