"""ML programs of a few operations, written as protobuf without coremltools' slow optimization passes."""

import numpy as np
import onnxruntime

from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime.portable.ml_program.translator import translate

ARRAY_TYPES = {"float32": 65568, "float16": 65552, "int32": 131104}


def make_spec(build, inputs, folder, target="iOS18"):
    """A `Model` message of the operations that `build` makes; larger constants go to `folder`/weight.bin.

    Args:
        build: a function of MIL variables, named as the inputs, that returns one variable or a tuple.
        inputs: by name an example array, or (shape, numpy type) where a dimension may be None.
        folder: where the weight file goes.
        target: a name of coremltools.target.
    """
    ct = import_coremltools()
    from coremltools import proto
    from coremltools.converters.mil import mil
    from coremltools.converters.mil.backend.mil.load import MILProtoExporter
    from coremltools.converters.mil.mil import Function

    version = getattr(ct.target, target)
    program = mil.Program()
    placeholders = {name: _placeholder(*_shape_and_type(value)) for name, value in inputs.items()}
    with quiet():
        with Function(placeholders, opset_version=version) as main:
            results = build(**main.inputs)
            main.set_outputs(list(results) if isinstance(results, list | tuple) else [results])
            program.add_function("main", main)
        exported = MILProtoExporter(program, str(folder), version.value).export()
    spec = proto.Model_pb2.Model(specificationVersion=version.value, mlProgram=exported)
    for name, value in inputs.items():
        _describe(spec.description.input.add(name=name), *_shape_and_type(value))
    for variable in program.functions["main"].outputs:
        _describe(spec.description.output.add(name=variable.name), (), "float32")
    return spec


def run_program(build, inputs, folder, target="iOS18"):
    """What the portable engine computes for a program: an array, or a list of arrays."""
    spec = make_spec(build, inputs, folder, target)
    outputs = run_spec(spec, inputs, folder)
    return outputs[0] if len(outputs) == 1 else outputs


def run_spec(spec, inputs, folder):
    """The outputs of a model for arrays by input name, in the order of its description."""
    translation = translate(spec, folder)
    session = onnxruntime.InferenceSession(translation.onnx_model)
    feeds = {translation.inputs[name]: value for name, value in inputs.items()}
    return session.run(list(translation.outputs.values()), feeds)


def expected_by_coremltools(build, inputs, target="iOS18"):
    """What coremltools' own definition of an operation computes (`value_inference`), as a list of arrays."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    found = []

    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1,))], opset_version=getattr(ct.target, target))
        def main(unused):
            results = build(**{name: mb.const(val=value) for name, value in inputs.items()})
            found.extend(results if isinstance(results, list | tuple) else [results])
            return mb.identity(x=unused)

    assert all(variable.val is not None for variable in found), "coremltools does not know the result"
    return [np.asarray(variable.val) for variable in found]


def pack_bits(values, bits):
    """Values of a few bits as bytes, by definition: one long number, low bits first."""
    values = [int(value) % 2**bits for value in np.ravel(values)]
    number = sum(value << (bits * index) for index, value in enumerate(values))
    return np.frombuffer(number.to_bytes(-(-bits * len(values) // 8), "little"), np.uint8)


def _shape_and_type(value):
    return (value.shape, value.dtype.name) if isinstance(value, np.ndarray) else value


def _placeholder(shape, dtype):
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import get_new_symbol, types

    sizes = tuple(get_new_symbol() if size is None else size for size in shape)
    return mb.placeholder(shape=sizes, dtype=types.numpy_type_to_builtin_type(np.dtype(dtype)))


def _describe(feature, shape, dtype):
    feature.type.multiArrayType.dataType = ARRAY_TYPES.get(dtype, ARRAY_TYPES["int32"])
    feature.type.multiArrayType.shape.extend(1 if size is None else size for size in shape)
