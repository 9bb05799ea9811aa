//! The complete description of one MobileNet, so that the code that builds its plan asks no question of a file.

use std::fmt;

/// Which MobileNet it is. The widths are not part of it: they come from the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// MobileNetV2 (Sandler et al., 2018), any width multiplier.
    V2,
    /// MobileNetV3-Small (Howard et al., 2019).
    V3Small,
    /// MobileNetV3-Large (Howard et al., 2019).
    V3Large,
    /// MobileNetV3-Small with 3x3 kernels only, no squeeze-excite and ReLU everywhere.
    V3SmallMinimalistic,
    /// MobileNetV3-Large with 3x3 kernels only, no squeeze-excite and ReLU everywhere.
    V3LargeMinimalistic,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::V2, Self::V3Large, Self::V3Small, Self::V3LargeMinimalistic, Self::V3SmallMinimalistic];

    /// The name as torchvision spells it, `mobilenet_v3_small` for example, with `_minimalistic` where that applies.
    pub fn name(self) -> &'static str {
        match self {
            Self::V2 => "mobilenet_v2",
            Self::V3Small => "mobilenet_v3_small",
            Self::V3Large => "mobilenet_v3_large",
            Self::V3SmallMinimalistic => "mobilenet_v3_small_minimalistic",
            Self::V3LargeMinimalistic => "mobilenet_v3_large_minimalistic",
        }
    }

    /// The architecture a configuration means by `name`: torchvision's (`mobilenet_v3_small`), timm's
    /// (`tf_mobilenetv3_large_minimal_100`, `mobilenetv2_140`) or a Hugging Face `model_type`. `None` if it is none of these.
    pub fn from_name(name: &str) -> Option<Self> {
        let plain = name.strip_prefix("tf_").unwrap_or(name);
        let rest = plain.strip_prefix("mobilenet_v").or_else(|| plain.strip_prefix("mobilenetv"))?;
        let mut words = rest.split('_');
        match (words.next()?, words.next()) {
            ("2", _) => Some(Self::V2),
            ("3", Some(size)) => {
                let minimal = words.any(|word| word == "minimal" || word == "minimalistic");
                match (size, minimal) {
                    ("small", false) => Some(Self::V3Small),
                    ("small", true) => Some(Self::V3SmallMinimalistic),
                    ("large", false) => Some(Self::V3Large),
                    ("large", true) => Some(Self::V3LargeMinimalistic),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose names the tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Naming {
    /// `features.0.0.weight`, `classifier.1.weight`, ...
    Torchvision,
    /// `conv_stem.weight`, `blocks.0.0.conv_dw.weight`, `classifier.weight`, ...
    Timm,
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torchvision => "torchvision",
            Self::Timm => "timm",
        })
    }
}

/// What follows a convolution or a fully connected layer, element by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x * min(max(x + 3, 0), 6) / 6`
    HardSwish,
}

/// Which inputs an output channel of a convolution sees; decides the weight's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConvKind {
    /// Every input channel, several taps: weight `[cout, cin, k, k]`. In a MobileNet that is the first convolution.
    Dense,
    /// Every input channel, one tap: weight `[cout, cin, 1, 1]`.
    Pointwise,
    /// The channel of its own number: weight `[cout, 1, k, k]`, `cin == cout`.
    Depthwise,
}

/// The four tensors of a batch norm, each of length `cout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchNormNames {
    /// Gamma.
    pub weight: String,
    /// Beta.
    pub bias: String,
    /// The mean over the training data.
    pub running_mean: String,
    /// The variance over the training data.
    pub running_var: String,
}

/// One convolution, with the batch norm to be folded into it and the activation after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvSpec {
    /// The weight tensor; its shape follows from [`kind`](Self::kind).
    pub weight: String,
    /// The tensor of one `f32` for each output channel that an 8-bit weight is multiplied by, where the file has one.
    pub weight_scale: Option<String>,
    /// The bias, of length `cout`. There is a bias or a batch norm; both where a file has both.
    pub bias: Option<String>,
    /// The batch norm between the convolution and its activation; `None` where it is folded into weight and bias already.
    pub batch_norm: Option<BatchNormNames>,
    /// The weight's layout.
    pub kind: ConvKind,
    /// Taps along each side.
    pub kernel: usize,
    /// Pixels from one output to the next, along each side.
    pub stride: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// What follows.
    pub activation: Activation,
}

impl ConvSpec {
    /// Into how many groups the channels fall: `cin` for a depthwise convolution, else 1.
    pub fn groups(&self) -> usize {
        match self.kind {
            ConvKind::Depthwise => self.cin,
            ConvKind::Dense | ConvKind::Pointwise => 1,
        }
    }

    /// Pixels along a side of the output for `input` pixels along that side: `ceil(input / stride)`, with either padding,
    /// since every kernel here has an odd number of taps.
    pub fn output_size(&self, input: usize) -> usize {
        input.div_ceil(self.stride)
    }
}

/// Squeeze-excite: the mean of each channel goes through two layers, and the result scales the channel.
///
/// `scale = min(max(fc2(max(fc1(mean), 0)) + 3, 0), 6) / 6`: ReLU between the layers and a hard sigmoid after them, in every
/// MobileNetV3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqueezeExciteSpec {
    /// From `channels` to `squeezed`, then ReLU. Its weight is `[squeezed, channels, 1, 1]`.
    pub fc1: LinearSpec,
    /// From `squeezed` to `channels`, then the hard sigmoid (not an [`Activation`] of the layer). Its weight is `[channels, squeezed, 1, 1]`.
    pub fc2: LinearSpec,
    /// Channels of the feature map.
    pub channels: usize,
    /// Channels between the layers.
    pub squeezed: usize,
}

/// One inverted residual block: expand, depthwise, squeeze-excite, project, add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSpec {
    /// What the file calls it: `features.3` or `blocks.1.0`.
    pub name: String,
    /// Pointwise, from the block's input to the wide middle; `None` where the middle is no wider than the input.
    pub expand: Option<ConvSpec>,
    /// Depthwise; carries the block's stride.
    pub depthwise: ConvSpec,
    /// Between the depthwise convolution's activation and the projection.
    pub squeeze_excite: Option<SqueezeExciteSpec>,
    /// Pointwise, from the middle to the block's output, no activation.
    pub project: ConvSpec,
    /// Whether the block's input is added to its output.
    pub residual: bool,
}

/// A fully connected layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearSpec {
    /// The weight: `[cout, cin]`, or the same values as a 1x1 convolution `[cout, cin, 1, 1]`.
    pub weight: String,
    /// The tensor of one `f32` for each output that an 8-bit weight is multiplied by, where the file has one.
    pub weight_scale: Option<String>,
    /// The bias, of length `cout`.
    pub bias: String,
    /// Inputs.
    pub cin: usize,
    /// Outputs.
    pub cout: usize,
    /// What follows.
    pub activation: Activation,
}

/// A MobileNet from its pixels to its logits.
///
/// In order: `stem`, `blocks`, `last`, the mean over all pixels, `head`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Which network it is.
    pub architecture: Architecture,
    /// Whose tensor names it uses.
    pub naming: Naming,
    /// The first convolution: 3x3 with stride 2, from three colours.
    pub stem: ConvSpec,
    /// The inverted residual blocks.
    pub blocks: Vec<BlockSpec>,
    /// The last convolution: pointwise, before the pooling.
    pub last: ConvSpec,
    /// The fully connected layers after the pooling: one in V2, two in V3.
    pub head: Vec<LinearSpec>,
    /// Outputs of the last layer.
    pub classes: usize,
    /// Length of the vector that the pooling hands to the head.
    pub feature_size: usize,
}

impl NetworkSpec {
    /// Every convolution in the order in which it runs (the layers of squeeze-excite and of the head are not among them).
    pub fn convolutions(&self) -> impl Iterator<Item = &ConvSpec> {
        let blocks = self.blocks.iter().flat_map(|block| block.expand.iter().chain([&block.depthwise, &block.project]));
        std::iter::once(&self.stem).chain(blocks).chain([&self.last])
    }

    /// Every fully connected layer: those of squeeze-excite in the order of the blocks, then the head.
    pub fn linears(&self) -> impl Iterator<Item = &LinearSpec> {
        let squeeze = self.blocks.iter().filter_map(|block| block.squeeze_excite.as_ref());
        squeeze.flat_map(|layers| [&layers.fc1, &layers.fc2]).chain(&self.head)
    }

    /// Whether any weight has a scale beside it, which is to say is stored in 8 bits.
    pub fn is_quantized(&self) -> bool {
        self.convolutions().any(|conv| conv.weight_scale.is_some())
            || self.linears().any(|layer| layer.weight_scale.is_some())
    }

    /// Whether any convolution has a batch norm that is still to be folded.
    pub fn has_batch_norm(&self) -> bool {
        self.convolutions().any(|conv| conv.batch_norm.is_some())
    }
}
