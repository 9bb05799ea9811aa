//! What shapes cannot tell about a MobileNet: strides and activations, from the tables in the papers
//! (arXiv 1801.04381, table 2; arXiv 1905.02244, tables 1 and 2).

use super::spec::{Activation, Architecture, Naming};

/// A run of blocks with one output width; the first block carries the stride.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    pub(super) repeats: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) expand: bool,
    pub(super) squeeze_excite: bool,
    pub(super) activation: Activation,
}

/// A network without its widths.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) stages: Vec<Stage>,
    /// After the first and the last convolution, and after the head's hidden layer where there is one.
    pub(super) activation: Activation,
    /// Whether the head has a hidden layer.
    pub(super) hidden: bool,
}

/// Repeats, kernel, stride, expand, squeeze-excite, hard-swish.
type Row = (usize, usize, usize, bool, bool, bool);

const V2: [Row; 7] = [
    (1, 3, 1, false, false, false),
    (2, 3, 2, true, false, false),
    (3, 3, 2, true, false, false),
    (4, 3, 2, true, false, false),
    (3, 3, 1, true, false, false),
    (3, 3, 2, true, false, false),
    (1, 3, 1, true, false, false),
];

const V3_LARGE: [Row; 6] = [
    (1, 3, 1, false, false, false),
    (2, 3, 2, true, false, false),
    (3, 5, 2, true, true, false),
    (4, 3, 2, true, false, true),
    (2, 3, 1, true, true, true),
    (3, 5, 2, true, true, true),
];

const V3_SMALL: [Row; 5] = [
    (1, 3, 2, false, true, false),
    (2, 3, 2, true, false, false),
    (3, 5, 2, true, true, true),
    (2, 5, 1, true, true, true),
    (3, 5, 2, true, true, true),
];

/// The block counts of timm's deeper V2s (`mobilenetv2_110d`, `mobilenetv2_120d`): those of the paper times 1.2 and 1.4,
/// rounded up, except for the first and the last stage.
const V2_DEEPER: [[usize; 7]; 2] = [[1, 3, 4, 5, 4, 4, 1], [1, 3, 5, 6, 5, 5, 1]];

/// Every table that a file with this architecture and naming may follow.
pub(super) fn tables(architecture: Architecture, naming: Naming) -> Vec<Table> {
    let base = table(architecture);
    let mut all = vec![base.clone()];
    if architecture == Architecture::V2 && naming == Naming::Timm {
        for depths in V2_DEEPER {
            let mut deeper = base.clone();
            for (stage, repeats) in deeper.stages.iter_mut().zip(depths) {
                stage.repeats = repeats;
            }
            all.push(deeper);
        }
    }
    all
}

fn table(architecture: Architecture) -> Table {
    let (rows, minimalistic): (&[Row], bool) = match architecture {
        Architecture::V2 => (&V2, false),
        Architecture::V3Large => (&V3_LARGE, false),
        Architecture::V3Small => (&V3_SMALL, false),
        Architecture::V3LargeMinimalistic => (&V3_LARGE, true),
        Architecture::V3SmallMinimalistic => (&V3_SMALL, true),
    };
    let v2 = architecture == Architecture::V2;
    let narrow = if v2 { Activation::Relu6 } else { Activation::Relu };
    let wide = if v2 || minimalistic { narrow } else { Activation::HardSwish };
    let stages = rows
        .iter()
        .map(|&(repeats, kernel, stride, expand, squeeze_excite, hard_swish)| Stage {
            repeats,
            kernel: if minimalistic { 3 } else { kernel },
            stride,
            expand,
            squeeze_excite: squeeze_excite && !minimalistic,
            activation: if hard_swish { wide } else { narrow },
        })
        .collect();
    Table { stages, activation: wide, hidden: !v2 }
}
