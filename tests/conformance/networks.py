"""Five image classifiers as plain PyTorch modules, with fixed random weights.

The architectures are those of their papers. The weights are random, but shaped so that errors show: activations
stay of order one, batch norms hold the statistics of what they see and non-trivial scales and offsets, and the
logits are of order one.
"""

import torch
from torch import Tensor, nn

CLASSES = 100
INPUT_SIZE = 96


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2015, figure 5 left)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18() -> nn.Module:
    """ResNet-18 (He et al. 2015, table 1)."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
        inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES)]
    return nn.Sequential(*layers)


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int, act: type | None
) -> nn.Sequential:
    """A convolution with batch norm and, unless `act` is None, an activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


class InvertedResidual(nn.Module):
    """Expand, filter per channel, project (Sandler et al. 2018); with squeeze-and-excitation in EfficientNet."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, expand: int, kernel: int, act: type, squeeze: int = 0
    ) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[nn.Module] = [convolution(inputs, hidden, 1, 1, 1, act)] if expand != 1 else []
        layers.append(convolution(hidden, hidden, kernel, stride, hidden, act))
        if squeeze:
            layers.append(SqueezeExcitation(hidden, squeeze))
        layers.append(convolution(hidden, outputs, 1, 1, 1, None))
        self.body = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.has_shortcut else self.body(x)


class SqueezeExcitation(nn.Module):
    """Each channel times a factor computed from the means of all channels (Hu et al. 2017)."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeeze, 1),
            nn.SiLU(),
            nn.Conv2d(squeeze, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018, table 2)."""
    layers: list[nn.Module] = [convolution(3, 32, 3, 2, 1, nn.ReLU6)]
    inputs = 32
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for expand, outputs, repeats, stride in stages:
        for index in range(repeats):
            layers.append(InvertedResidual(inputs, outputs, stride if index == 0 else 1, expand, 3, nn.ReLU6))
            inputs = outputs
    layers += [convolution(320, 1280, 1, 1, 1, nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(1280, CLASSES))


def efficientnet_b0() -> nn.Module:
    """EfficientNet-B0 (Tan and Le 2019, table 1)."""
    layers: list[nn.Module] = [convolution(3, 32, 3, 2, 1, nn.SiLU)]
    inputs = 32
    stages = (
        (1, 3, 16, 1, 1),
        (6, 3, 24, 2, 2),
        (6, 5, 40, 2, 2),
        (6, 3, 80, 3, 2),
        (6, 5, 112, 3, 1),
        (6, 5, 192, 4, 2),
        (6, 3, 320, 1, 1),
    )
    for expand, kernel, outputs, repeats, stride in stages:
        for index in range(repeats):
            step = stride if index == 0 else 1
            block = InvertedResidual(inputs, outputs, step, expand, kernel, nn.SiLU, squeeze=inputs // 4)
            layers.append(block)
            inputs = outputs
    layers += [convolution(320, 1280, 1, 1, 1, nn.SiLU), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(1280, CLASSES))


class Fire(nn.Module):
    """Squeeze to few channels, expand with 1x1 and 3x3 side by side (Iandola et al. 2016)."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(inputs, squeezed, 1), nn.ReLU())
        self.expand1 = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        self.expand3 = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        return torch.cat([self.expand1(squeezed), self.expand3(squeezed)], 1)


def squeezenet1_1() -> nn.Module:
    """SqueezeNet 1.1, whose pooling rounds sizes up."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2),
        nn.ReLU(),
        pool(),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        pool(),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        pool(),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
        nn.Dropout(0.5),
        nn.Conv2d(512, CLASSES, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class EncoderBlock(nn.Module):
    """Attention and a two-layer perceptron, each with a shortcut (Dosovitskiy et al. 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.project(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """A small vision transformer with a class token and learnt positions."""

    def __init__(self, width: int = 192, heads: int = 3, depth: int = 4, patch: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (INPUT_SIZE // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*[EncoderBlock(width, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], 1) + self.positions
        return self.head(self.norm(self.blocks(tokens))[:, 0])


NETWORKS = {
    "resnet18": resnet18,
    "mobilenet_v2": mobilenet_v2,
    "squeezenet1_1": squeezenet1_1,
    "efficientnet_b0": efficientnet_b0,
    "vision_transformer": VisionTransformer,
}


def build(name: str) -> nn.Module:
    """A network with its fixed random weights, ready to answer."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    # Batch norms collect the mean and variance of what they see.
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(inputs(8))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # A channel that is nearly dead would be blown up, and rounding errors with it.
            module.running_var.clamp_(min=0.01)
    return network.eval()


def inputs(count: int) -> Tensor:
    """Images as normalized photos would be: smooth patterns with noise, mean 0 and deviation about 1."""
    coarse = torch.randn(count, 3, 6, 6)
    smooth = nn.functional.interpolate(coarse, INPUT_SIZE, mode="bicubic", align_corners=False)
    return smooth + 0.3 * torch.randn(count, 3, INPUT_SIZE, INPUT_SIZE)
