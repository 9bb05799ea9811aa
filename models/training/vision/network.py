"""The network of the sketches: MobileNetV3-Small (Howard et al., 2019) in torchvision's tensor names, half as wide, with a small head.

Strides, kernels, activations and the places of squeeze-excite are the paper's (arXiv 1905.02244, table 2), since they are
what a reader of the weights goes by; widths are read from the tensors. Written out here so that training needs no
torchvision.
"""

from torch import nn

# Kernel, width of the middle, width of the output, squeeze-excite, hard-swish, stride.
BLOCKS = [
    (3, 16, 16, True, False, 2),
    (3, 48, 16, False, False, 2),
    (3, 56, 16, False, False, 1),
    (5, 64, 24, True, True, 2),
    (5, 120, 24, True, True, 1),
    (5, 120, 24, True, True, 1),
    (5, 72, 32, True, True, 1),
    (5, 96, 32, True, True, 1),
    (5, 144, 48, True, True, 2),
    (5, 288, 48, True, True, 1),
    (5, 288, 48, True, True, 1),
]
STEM, LAST, HIDDEN = 16, 288, 160
EPSILON = 1e-3


def eights(width):
    """Widths are multiples of eight and lose no more than a tenth by it, as in the published networks."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def conv(inputs, outputs, kernel=1, stride=1, groups=1, activation=nn.Hardswish):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=EPSILON, momentum=0.03),
    ]
    return nn.Sequential(*layers, *([activation(inplace=True)] if activation else []))


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, eights(channels // 4), 1)
        self.fc2 = nn.Conv2d(eights(channels // 4), channels, 1)

    def forward(self, x):
        scale = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu())
        return x * nn.functional.hardsigmoid(scale)


class Block(nn.Module):
    def __init__(self, inputs, kernel, middle, outputs, squeeze, swish, stride):
        super().__init__()
        activation = nn.Hardswish if swish else nn.ReLU
        layers = [conv(inputs, middle, activation=activation)] if middle != inputs else []
        layers.append(conv(middle, middle, kernel, stride, middle, activation))
        layers += [SqueezeExcite(middle)] if squeeze else []
        self.block = nn.Sequential(*layers, conv(middle, outputs, activation=None))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.block(x) if self.residual else self.block(x)


class Sketches(nn.Module):
    """Pixels `[n, 3, 64, 64]`, normalized, to logits `[n, classes]`."""

    def __init__(self, classes):
        super().__init__()
        features, width = [conv(3, STEM, 3, 2)], STEM
        for kernel, middle, outputs, squeeze, swish, stride in BLOCKS:
            features.append(Block(width, kernel, middle, outputs, squeeze, swish, stride))
            width = outputs
        self.features = nn.Sequential(*features, conv(width, LAST))
        self.classifier = nn.Sequential(
            nn.Linear(LAST, HIDDEN), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(HIDDEN, classes)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))
