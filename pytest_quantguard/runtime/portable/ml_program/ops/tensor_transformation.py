"""Changing the shape and order of tensors (MIL family `tensor_transformation`)."""

from pytest_quantguard.runtime.portable.ml_program.operation import MilOperation
from pytest_quantguard.runtime.portable.ml_program.registry import operation

IOS17_OPSET = 7


@operation("reshape")
def reshape(op: MilOperation) -> str:
    """x in another shape; -1 takes what is left, 0 takes the size of x

    Up to iOS 16 a 0 means the same dimension of x; from iOS 17 on dimensions are counted from the last one.
    """
    x = op.tensor("x")
    if not op.is_constant("shape"):
        return op.node("Reshape", x, op.int64("shape"))
    target = op.integers("shape")
    if op.opset >= IOS17_OPSET and 0 in target:
        sizes = op.shape("x")
        for index in range(len(target)):
            position = len(sizes) - len(target) + index
            if target[index] == 0 and position < 0:
                target[index] = 1
            elif target[index] == 0 and position != index:
                size = sizes[position]
                target[index] = (
                    size if size is not None else op.refuse("a 0 in the shape for a flexible dimension")
                )
    return op.node("Reshape", x, op.array(target, "int64"))


@operation("reshape_like")
def reshape_like(op: MilOperation) -> str:
    """x in a shape made of parts of other tensors' shapes"""
    target: list[int | None] = []
    bounds = zip(op.values("begins"), op.values("ends"), op.values("end_masks"), strict=True)
    for index, (begin, end, open_end) in enumerate(bounds):
        stop = None if open_end.constant else int(end.constant)
        target += op.shape("ref_tensors", index)[int(begin.constant) : stop]
    if None in target:
        op.refuse("a flexible shape")
    return op.node("Reshape", op.tensor("x"), op.array(target, "int64"))


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
    """Without some or all dimensions of size 1; other dimensions stay, even when named"""
    sizes = op.shape("x")
    axes = [axis % len(sizes) for axis in op.integers("axes", range(len(sizes)))]
    if any(sizes[axis] is None for axis in axes):
        op.refuse("a flexible dimension to be removed")
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
    batch, channels, height, width = op.static_shape("x")
    blocks = [batch, channels, height // factor, factor, width // factor, factor]
    split = op.node("Reshape", op.tensor("x"), op.array(blocks, "int64"))
    moved = op.node("Transpose", split, perm=[0, 1, 3, 5, 2, 4])
    target = [batch, channels * factor**2, height // factor, width // factor]
    return op.node("Reshape", moved, op.array(target, "int64"))


@operation("space_to_batch")
def space_to_batch(op: MilOperation) -> str:
    """Blocks of padded pixels to the batch; the place in the block is the slower part of the batch number"""
    rows, columns = op.integers("block_shape")
    (top, bottom), (left, right) = op.constant("paddings").reshape(2, 2).tolist()
    batch, channels, height, width = op.static_shape("x")
    pads = op.array([0, 0, top, left, 0, 0, bottom, right], "int64")
    height, width = (height + top + bottom) // rows, (width + left + right) // columns
    split = op.array([batch, channels, height, rows, width, columns], "int64")
    blocks = op.node("Reshape", op.node("Pad", op.tensor("x"), pads), split)
    moved = op.node("Transpose", blocks, perm=[3, 5, 0, 1, 2, 4])
    return op.node("Reshape", moved, op.array([batch * rows * columns, channels, height, width], "int64"))


@operation("batch_to_space")
def batch_to_space(op: MilOperation) -> str:
    """The inverse of space_to_batch, with cropping in place of padding"""
    rows, columns = op.integers("block_shape")
    (top, bottom), (left, right) = op.constant("crops").reshape(2, 2).tolist()
    batch, channels, height, width = op.static_shape("x")
    batch //= rows * columns
    blocks = op.node("Reshape", op.tensor("x"), op.array([rows, columns, batch, channels, height, width], "int64"))
    moved = op.node("Transpose", blocks, perm=[2, 3, 4, 0, 5, 1])
    height, width = height * rows, width * columns
    image = op.node("Reshape", moved, op.array([batch, channels, height, width], "int64"))
    starts, ends = op.array([top, left], "int64"), op.array([height - bottom, width - right], "int64")
    return op.node("Slice", image, starts, ends, op.array([2, 3], "int64"))
