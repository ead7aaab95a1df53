"""The sound models that are damaged: small ones of every kind that the portable engine runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from feature_model_makers import add_tree, classifier_spec, make_pipeline, new_spec
from model_makers import small_network, small_program
from network_runner import make_builder

from pytest_quantguard import quantize
from pytest_quantguard.quiet import import_coremltools, quiet


def write_seeds(folder: Path) -> list[Path]:
    """Write each model into a folder; returns their paths in a fixed order."""
    paths = []
    for name, make in SEEDS.items():
        mlmodel = make()
        path = folder / f"{name}{'.mlpackage' if mlmodel.weights_dir else '.mlmodel'}"
        with quiet():
            mlmodel.save(str(path))
        paths.append(path)
    return paths


def _quantized(make: Callable[[], Any], bits: int, mode: str) -> Callable[[], Any]:
    return lambda: quantize(make(), bits=bits, mode=mode, engine="portable").mlmodel


def _recurrent_network() -> Any:
    ct = import_coremltools()
    from coremltools.models.neural_network import NeuralNetworkBuilder

    rng = np.random.default_rng(0)
    with quiet():
        builder = NeuralNetworkBuilder(
            [("x", ct.models.datatypes.Array(5, 1, 4))], [("y", None)], disable_rank5_shape_mapping=True
        )
        builder.add_reshape_static("reshape", "x", "series", (5, 1, 4, 1, 1))
        kernels = [[rng.normal(size=(3, size)).astype(np.float32) for _ in range(4)] for size in (3, 4)]
        builder.add_unilstm(
            "lstm",
            *kernels,
            None,
            hidden_size=3,
            input_size=4,
            input_names=["series"],
            output_names=["y", "h", "c"],
        )
        builder.add_elementwise("add", ["h", "c"], "sum", "ADD")
        return ct.models.MLModel(builder.spec, skip_model_load=True)


def _shaping_program() -> Any:
    """Operations that reshape, repeat and fill by numbers in the file; shapes computed while it runs."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(2, 6))], opset_version=ct.target.iOS17)
        def program(x):
            y = mb.tile(x=mb.reshape(x=x, shape=(1, 3, 4)), reps=(2, 1, 3))
            y = mb.pad(x=y, pad=(0, 0, 1, 2), mode="constant", constant_val=np.float32(1))
            y = mb.slice_by_index(x=y, begin=(0, 0, 1), end=(2, 3, 9), stride=(1, 1, 2))
            flags = mb.non_zero(x=mb.cast(x=mb.greater(x=x, y=np.float32(0)), dtype="int32"))
            filled = mb.fill(shape=mb.shape(x=flags), value=np.float32(2))
            y = mb.reduce_sum(x=mb.concat(values=[y, y], axis=1), axes=[0], keep_dims=True)
            return mb.topk(x=y, k=2, axis=2)[0], mb.reduce_sum(x=filled, name="sum")

        return ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS17, skip_model_load=True
        )


def _looping_program() -> Any:
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder as mb

    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(3,))], opset_version=ct.target.iOS15)
        def program(x):
            values = mb.make_list(init_length=2, elem_shape=(3,), dynamic_length=True)

            def body(count, current, kept):
                return mb.add(x=count, y=np.int32(1)), mb.mul(x=current, y=np.float32(2)), kept

            def written(count, current, kept):
                kept = mb.list_write(ls=kept, index=count, value=current)
                return body(count, current, kept)

            def more(count, current, kept):
                return mb.less(x=count, y=np.int32(4))

            _, last, values = mb.while_loop(_cond=more, _body=written, loop_vars=(np.int32(0), x, values))
            first = mb.list_read(ls=values, index=np.int32(1))
            is_large = mb.greater(x=mb.reduce_sum(x=last), y=np.float32(0))
            return mb.cond(pred=is_large, _true_fn=lambda: mb.add(x=last, y=first), _false_fn=lambda: mb.exp(x=x))

        return ct.convert(program, convert_to="mlprogram", skip_model_load=True)


def _branching_network() -> Any:
    ct = import_coremltools()
    from coremltools.models.neural_network import NeuralNetworkBuilder

    with quiet():
        builder = make_builder({"x": (4,), "flag": (1,)}, exact=True)
        branch = builder.add_branch("choose", "flag").branch
        NeuralNetworkBuilder(nn_spec=branch.ifBranch).add_elementwise("ten", ["x"], "z", mode="MULTIPLY", alpha=10)
        NeuralNetworkBuilder(nn_spec=branch.elseBranch).add_activation("plus", "LINEAR", "x", "z", [1, 2])
        loop = builder.add_loop("repeat", max_iterations=3).loop
        NeuralNetworkBuilder(nn_spec=loop.bodyNetwork).add_elementwise("more", ["z"], "z", mode="ADD", alpha=1)
        builder.add_random_normal_static("noise", "noise", [4], mean=0, stddev=1, seed=5)
        builder.add_tile("tile", "z", "tiled", [2])
        builder.add_concat_nd("join", ["tiled", "noise"], "y", axis=0)
        return ct.models.MLModel(builder.spec, skip_model_load=True)


def _tree_pipeline() -> Any:
    scaler = new_spec("scaler", {"x": ((3,), "DOUBLE")}, {"scaled": ((3,), "DOUBLE")})
    scaler.scaler.scaleValue.append(2.0)
    trees = classifier_spec("treeEnsembleClassifier", {"scaled": ((3,), "DOUBLE")}, ["low", "middle", "high"])
    ensemble = trees.treeEnsembleClassifier.treeEnsemble
    ensemble.numPredictionDimensions = 3
    ensemble.basePredictionValue.extend([0.0, 0.0, 0.0])
    branch = {
        "feature": 1,
        "value": 0.5,
        "yes": {0: 1.0},
        "no": {"feature": 2, "value": 0.1, "yes": {1: 1}, "no": {2: 1}},
    }
    add_tree(ensemble, branch, 0)
    add_tree(ensemble, {"feature": 0, "value": -0.5, "yes": {2: 0.5}, "no": {1: 0.25}}, 1)
    outputs = {"label": "string", "probabilities": "dictionary:string"}
    names = {"predicted": "label", "probabilities": "probabilities"}
    return _model(
        make_pipeline([scaler, trees], {"x": ((3,), "DOUBLE")}, outputs, kind="pipelineClassifier", **names)
    )


def _vector_machine() -> Any:
    spec = classifier_spec("supportVectorClassifier", {"x": ((2,), "DOUBLE")}, ["a", "b", "c"])
    machine, rng = spec.supportVectorClassifier, np.random.default_rng(0)
    machine.kernel.rbfKernel.gamma = 0.5
    machine.numberOfSupportVectorsPerClass.extend([2, 2, 1])
    for _ in range(5):
        machine.denseSupportVectors.vectors.add().values.extend(rng.normal(size=2))
    for _ in range(2):
        machine.coefficients.add().alpha.extend(rng.normal(size=5))
    machine.rho.extend([0.1, 0.2, 0.3])
    machine.probA.extend([-1.0, -1.1, -1.2])
    machine.probB.extend([0.0, 0.1, 0.2])
    return _model(spec)


def _neighbors() -> Any:
    import_coremltools()
    from coremltools.models.nearest_neighbors import KNearestNeighborsClassifierBuilder

    builder = KNearestNeighborsClassifierBuilder("x", "label", 4, "a", index_type="kd_tree", number_of_neighbors=3)
    rows = np.random.default_rng(0).normal(size=(9, 4))
    builder.add_samples(rows.tolist(), list("abcabcabc"))
    return _model(builder.spec)


def _model(spec: Any) -> Any:
    with quiet():
        return import_coremltools().models.MLModel(spec, skip_model_load=True)


SEEDS: dict[str, Callable[[], Any]] = {
    "network": small_network,
    "network_linear4": _quantized(small_network, 4, "linear"),
    "network_lut6": _quantized(small_network, 6, "kmeans_lut"),
    "recurrent": _recurrent_network,
    "program": small_program,
    "program_lut4": _quantized(small_program, 4, "kmeans_lut"),
    "program_linear8": _quantized(small_program, 8, "linear"),
    "shaping": _shaping_program,
    "looping": _looping_program,
    "branching": _branching_network,
    "trees": _tree_pipeline,
    "vectors": _vector_machine,
    "neighbors": _neighbors,
}
