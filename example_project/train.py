# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "torch==2.13.0",
#     "coremltools==9.0",
#     "scikit-learn>=1.3",
#     "pillow>=10.3",
# ]
# ///
"""Train the app's digit classifier and write what the app and its tests need.

    uv run train.py          (or: pip install the packages above; python train.py)

writes `model/digits.mlmodel`, `model/digits.mlpackage` (the same weights as a neural network and as an ML program)
and `samples/<digit>/*.png`, the scans that training never sees. It takes about a minute.
"""

import shutil
from pathlib import Path

import coremltools as ct
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).parent
SEED = 1
SIZE = 32
"""Width and height of the model's input in pixels; the scans are 8 x 8 and are enlarged."""
EPOCHS = 40
BLOCKS = [(16, 48, 1), (48, 64, 2), (64, 64, 1), (64, 64, 1), (64, 96, 2), (96, 96, 1), (96, 96, 1)]
"""Channels in, channels out and stride of the network's blocks."""
LABELS = [str(digit) for digit in range(10)]


def read_scans():
    """All 1,797 scans as 8-bit gray images of shape (count, SIZE, SIZE), and their digits."""
    digits = load_digits()
    scans = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    enlarged = [Image.fromarray(scan).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for scan in scans]
    return np.stack([np.asarray(image) for image in enlarged]), digits.target


def convolution(channels_in, channels_out, kernel, *, stride=1, groups=1):
    """A convolution with batch normalization, which coremltools folds into the weights, and ReLU."""
    return [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]


def network():
    """A small MobileNet: depthwise convolutions, each followed by one of kernel size 1."""
    layers = convolution(1, 16, 3, stride=2)
    for channels_in, channels_out, stride in BLOCKS:
        layers += convolution(channels_in, channels_in, 3, stride=stride, groups=channels_in)
        layers += convolution(channels_in, channels_out, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(BLOCKS[-1][1], len(LABELS)))


def shaken(images):
    """Images turned, scaled, sheared and moved a little, each in its own way."""
    count = len(images)
    transform = torch.eye(2, 3).repeat(count, 1, 1)
    transform[:, :, :2] += 0.12 * torch.randn(count, 2, 2)
    transform[:, :, 2] += 0.08 * torch.randn(count, 2)
    grid = nn.functional.affine_grid(transform, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def train(images, digits):
    """Train the network on images with values from 0 to 1."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    steps = EPOCHS * -(-len(images) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(64):
            loss = nn.functional.cross_entropy(model(shaken(images[batch])), digits[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def convert(model):
    """Write the trained network as a neural network and as an ML program; the softmax becomes part of it."""
    with_softmax = nn.Sequential(model, nn.Softmax(dim=1)).eval()
    traced = torch.jit.trace(with_softmax, torch.zeros(1, 1, SIZE, SIZE))
    image = ct.ImageType("image", (1, 1, SIZE, SIZE), scale=1 / 255, color_layout=ct.colorlayout.GRAYSCALE)
    folder = HERE / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, target in (
        ("digits.mlmodel", {"convert_to": "neuralnetwork", "outputs": [ct.TensorType("digit_probs")]}),
        ("digits.mlpackage", {"convert_to": "mlprogram", "minimum_deployment_target": ct.target.iOS16}),
    ):
        labels = ct.ClassifierConfig(LABELS, predicted_feature_name="digit")
        converted = ct.convert(traced, inputs=[image], classifier_config=labels, **target)
        converted.short_description = "Recognizes one handwritten digit."
        converted.save(str(folder / name))


def write_samples(images, digits):
    """Write one PNG per scan into the folder of its digit."""
    shutil.rmtree(HERE / "samples", ignore_errors=True)
    for label in LABELS:
        folder = HERE / "samples" / label
        folder.mkdir(parents=True)
        for number, image in enumerate(images[digits == int(label)]):
            Image.fromarray(image).save(folder / f"{number:02}.png", optimize=True)


def as_input(images):
    """8-bit images as the network takes them: shape (count, 1, SIZE, SIZE), values from 0 to 1."""
    return torch.from_numpy(images).unsqueeze(1).float() / 255


def main():
    """Split, train, check on what was held out, write."""
    torch.manual_seed(SEED)
    # The network is too small for threads, and sums do not depend on how many there are.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, digits = read_scans()
    images, held_out, digits, held_out_digits = train_test_split(
        images, digits, test_size=0.2, stratify=digits, random_state=SEED
    )
    model = train(as_input(images), torch.from_numpy(digits))
    with torch.no_grad():
        right = int((model(as_input(held_out)).argmax(1).numpy() == held_out_digits).sum())
    print(f"{right} of {len(held_out)} held-out scans are read right ({right / len(held_out):.1%}).")
    convert(model)
    write_samples(held_out, held_out_digits)


if __name__ == "__main__":
    main()
