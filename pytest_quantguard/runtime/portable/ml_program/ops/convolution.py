"""Convolutions (MIL family `conv`)."""

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.ops.padding import padded_input, split_same
from pytest_quantguard.runtime.portable.ml_program.registry import operation


@operation("conv")
def conv(op: MilOperation) -> str:
    """Convolution over one to three spatial dimensions; weight (out, in / groups, *kernel)"""
    return _convolved(op, op.tensor("weight"))


@operation("conv_quantized")
def conv_quantized(op: MilOperation) -> str:
    """Convolution whose weight is `weight` times `quant_scale` plus `quant_bias`, per output channel or alike"""
    op.ignore("nbits")
    if op.text("quantization_type") != "linear":
        op.refuse(f"quantization_type '{op.text('quantization_type')}'")
    per_channel = op.array([-1, *[1] * (op.rank("weight") - 1)], "int64")
    scale, shift = (op.node("Reshape", op.tensor(name), per_channel) for name in ("quant_scale", "quant_bias"))
    return _convolved(op, op.node("Add", op.node("Mul", op.tensor_as("weight", "float32"), scale), shift))


def _convolved(op: MilOperation, weight: str) -> str:
    ones = [1] * (op.rank("x") - 2)
    kernel = op.static_shape("weight")[2:]
    strides, dilations = op.integers("strides", ones), op.integers("dilations", ones)
    bias = [op.tensor_as("bias", "float32")] if op.has("bias") else []
    x, padding = padded_input(op, kernel, strides, dilations)
    return op.node(
        "Conv",
        x,
        weight,
        *bias,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=op.integer("groups", 1),
        **padding,
    )


@operation("conv_transpose")
def conv_transpose(op: MilOperation) -> str:
    """Transposed convolution; weight (in, out / groups, *kernel)"""
    ones = [1] * (op.rank("x") - 2)
    kernel = op.static_shape("weight")[2:]
    strides, dilations = op.integers("strides", ones), op.integers("dilations", ones)
    extents = [(length - 1) * dilation + 1 for length, dilation in zip(kernel, dilations, strict=True)]
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "group": op.integer("groups", 1),
    }
    if op.has("output_shape") and None in op.shape("x")[2:]:
        full = op.node("ConvTranspose", op.tensor("x"), op.tensor("weight"), **attributes)
        return _with_bias(op, _fitted(op, full))
    pads = _cropped(op, extents, strides)
    bias = [op.tensor("bias")] if op.has("bias") else []
    return op.node(
        "ConvTranspose",
        op.tensor("x"),
        op.tensor("weight"),
        *bias,
        pads=[max(before, 0) for before, _ in pads] + [max(after, 0) for _, after in pads],
        output_padding=[max(-after, 0) for _, after in pads],
        **attributes,
    )


def _fitted(op: MilOperation, full: str) -> str:
    """A full output of unknown size, cropped or lengthened to `output_shape` as `_cropped` says."""
    wanted = op.integers("output_shape")[2:]
    total = op.node("Sub", op.node("Shape", full, start=2), op.array(wanted, "int64"))
    before = op.array(op.integers("pad", [0] * 2 * len(wanted))[::2], "int64")
    pad_type = op.text("pad_type", "valid")
    if pad_type == "same":
        half = op.node("Div", total, op.array(2, "int64"))
        before = op.node("Max", half, op.array(0, "int64"))
    elif pad_type == "valid":
        before = op.array([0] * len(wanted), "int64")
    pads = op.node("Concat", before, op.node("Sub", total, before), axis=0)
    axes = op.array(range(2, 2 + len(wanted)), "int64")
    return op.node("Pad", full, op.node("Neg", pads), "", axes)


def _with_bias(op: MilOperation, tensor: str) -> str:
    if not op.has("bias"):
        return tensor
    shape = op.array([-1, *[1] * (op.rank("x") - 2)], "int64")
    return op.node("Add", tensor, op.node("Reshape", op.tensor("bias"), shape))


def _cropped(op: MilOperation, extents: list[int], strides: list[int]) -> list[tuple[int, int]]:
    """How many elements the full output, (size - 1) * stride + extent long, loses at both ends.

    A negative number at the end means that the output is longer.
    """
    pad_type = op.text("pad_type", "valid")
    custom = op.integers("pad", [0] * 2 * len(extents))
    if pad_type not in ("valid", "same", "custom"):
        op.refuse(f"pad_type '{pad_type}'")
    wanted = op.integers("output_shape")[2:] if op.has("output_shape") else None
    crops = []
    for index, (extent, stride) in enumerate(zip(extents, strides, strict=True)):
        if wanted is not None:
            full = (op.static_shape("x")[2 + index] - 1) * stride + extent
            total = full - wanted[index]
        elif pad_type == "same":
            # The output is size * stride long.
            total = extent - stride
        elif pad_type == "custom":
            total = custom[2 * index] + custom[2 * index + 1]
        else:
            total = 0
        if pad_type == "custom":
            crops.append((custom[2 * index], total - custom[2 * index]))
        elif pad_type == "same" and total > 0:
            crops.append(split_same(total, lower=False))
        else:
            crops.append((0, total))
    return crops
