"""Changing the shape and order of tensors (MIL family `tensor_transformation`)."""

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

IOS17_OPSET = 7
END = 2**31 - 1


@operation("reshape")
def reshape(op: MilOperation) -> str:
    """x in another shape; -1 takes what is left, 0 takes the size of x

    Up to iOS 16 a 0 means the same dimension of x; from iOS 17 on dimensions are counted from the last one.
    """
    x = op.tensor("x")
    if not op.is_constant("shape"):
        return op.node("Reshape", x, op.int64("shape"))
    target = op.integers("shape")
    if op.opset < IOS17_OPSET or 0 not in target:
        return op.node("Reshape", x, op.array(target, "int64"))
    # The sizes of x, with ones before them where the target is longer.
    longer = op.node("Concat", op.array([1] * len(target), "int64"), op.node("Shape", x), axis=0)
    kept = op.node("Slice", longer, op.array([-len(target)], "int64"), op.array([END], "int64"))
    inherited = op.array([size == 0 for size in target], "bool")
    return op.node("Reshape", x, op.node("Where", inherited, kept, op.array(target, "int64")))


@operation("reshape_like")
def reshape_like(op: MilOperation) -> str:
    """x in a shape made of parts of other tensors' shapes"""
    bounds = zip(
        op.tensors("ref_tensors"), op.values("begins"), op.values("ends"), op.values("end_masks"), strict=True
    )
    parts = []
    for reference, begin, end, open_end in bounds:
        stop = {} if open_end.constant else {"end": int(end.constant)}
        parts.append(op.node("Shape", reference, start=int(begin.constant), **stop))
    return op.node("Reshape", op.tensor("x"), op.node("Concat", *parts, axis=0))


@operation("flatten2d")
def flatten2d(op: MilOperation) -> str:
    """The dimensions before an axis as one, those from it on as another"""
    # 1 is a valid axis of a vector: it makes one column of it.
    axis = op.integer("axis", 1)
    return op.node("Flatten", op.tensor("x"), axis=axis)


@operation("expand_dims")
def expand_dims(op: MilOperation) -> str:
    """New dimensions of size 1"""
    return op.node("Unsqueeze", op.tensor("x"), op.array(op.integers("axes"), "int64"))


@operation("squeeze")
def squeeze(op: MilOperation) -> str:
    """Without some or all dimensions of size 1; other and flexible dimensions stay, even when named"""
    sizes = op.shape("x")
    axes = [axis % len(sizes) for axis in op.integers("axes", range(len(sizes)))]
    dropped = sorted(axis for axis in axes if sizes[axis] == 1)
    return op.node("Squeeze", op.tensor("x"), op.array(dropped, "int64")) if dropped else op.tensor("x")


@operation("transpose")
def transpose(op: MilOperation) -> str:
    """Dimensions in another order"""
    rank = op.rank("x")
    return op.node("Transpose", op.tensor("x"), perm=[axis % rank for axis in op.integers("perm")])


@operation("depth_to_space")
def depth_to_space(op: MilOperation) -> str:
    """Channels to blocks of pixels; the place in the block is the slower part of the channel number"""
    return op.node("DepthToSpace", op.tensor("x"), blocksize=op.integer("block_size"), mode="DCR")


@operation("space_to_depth")
def space_to_depth(op: MilOperation) -> str:
    """Blocks of pixels to channels; the place in the block is the slower part of the channel number"""
    return op.node("SpaceToDepth", op.tensor("x"), blocksize=op.integer("block_size"))


@operation("pixel_shuffle")
def pixel_shuffle(op: MilOperation) -> str:
    """Channels to blocks of pixels, as PyTorch's PixelShuffle"""
    return op.node("DepthToSpace", op.tensor("x"), blocksize=op.integer("upscale_factor"), mode="CRD")


@operation("pixel_unshuffle")
def pixel_unshuffle(op: MilOperation) -> str:
    """Blocks of pixels to channels, as PyTorch's PixelUnshuffle"""
    factor = op.integer("downscale_factor")
    # ONNX's SpaceToDepth has the place in the block as the slower part of the channel number, not as the faster.
    deep = op.node("SpaceToDepth", op.tensor("x"), blocksize=factor)
    sizes = op.node("Shape", op.tensor("x"), start=1, end=2)
    split = op.node("Concat", op.array([0, factor**2], "int64"), sizes, op.array([-1], "int64"), axis=0)
    moved = op.node("Transpose", op.node("Reshape", deep, split), perm=[0, 2, 1, 3])
    return op.node("Reshape", moved, op.node("Shape", deep))


@operation("space_to_batch")
def space_to_batch(op: MilOperation) -> str:
    """Blocks of padded pixels to the batch; the place in the block is the slower part of the batch number"""
    rows, columns = op.integers("block_shape")
    (top, bottom), (left, right) = op.constant("paddings").reshape(2, 2).tolist()
    pads = op.array([0, 0, top, left, 0, 0, bottom, right], "int64")
    padded = op.node("Pad", op.tensor("x"), pads)
    batch, channels, height, width = _sizes(op, padded)
    down, across = op.array([rows], "int64"), op.array([columns], "int64")
    height, width = op.node("Div", height, down), op.node("Div", width, across)
    blocks = _reshaped(op, padded, [batch, channels, height, down, width, across])
    moved = op.node("Transpose", blocks, perm=[3, 5, 0, 1, 2, 4])
    return _reshaped(op, moved, [op.array([-1], "int64"), channels, height, width])


@operation("batch_to_space")
def batch_to_space(op: MilOperation) -> str:
    """The inverse of space_to_batch, with cropping in place of padding"""
    rows, columns = op.integers("block_shape")
    (top, bottom), (left, right) = op.constant("crops").reshape(2, 2).tolist()
    _, channels, height, width = _sizes(op, op.tensor("x"))
    down, across, rest = (op.array([number], "int64") for number in (rows, columns, -1))
    blocks = _reshaped(op, op.tensor("x"), [down, across, rest, channels, height, width])
    moved = op.node("Transpose", blocks, perm=[2, 3, 4, 0, 5, 1])
    height, width = op.node("Mul", height, down), op.node("Mul", width, across)
    image = _reshaped(op, moved, [rest, channels, height, width])
    starts, ends = op.array([top, left], "int64"), op.array([-bottom or END, -right or END], "int64")
    return op.node("Slice", image, starts, ends, op.array([2, 3], "int64"))


def _sizes(op: MilOperation, tensor: str) -> list[str]:
    """Batch, channels, height and width of an image, each a vector of one number."""
    return op.nodes("Split", [op.node("Shape", tensor)], 4, axis=0, num_outputs=4)


def _reshaped(op: MilOperation, tensor: str, sizes: list[str]) -> str:
    return op.node("Reshape", tensor, op.node("Concat", *sizes, axis=0))
