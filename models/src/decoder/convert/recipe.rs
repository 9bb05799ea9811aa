//! Which format each matrix of a file takes: one for all, or the mixes that files found in the wild are named after.

use lampyris_engine::weights::blocks::BlockFormat;
use std::fmt;

/// How the matrices of a GGUF file are stored.
///
/// The mixes are llama.cpp's (`llama_tensor_get_type` of its quantizer): Q6_K for the matrix of the logits, more bits for the values of attention and
/// the projections of units in some layers, and the format that the mix is named after for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recipe {
    /// One format for all.
    All(BlockFormat),
    /// Q4_K, with Q5_K in the first layers.
    Q4KS,
    /// Q4_K, with Q6_K in half of the layers.
    Q4KM,
    /// Q5_K.
    Q5KS,
    /// Q5_K, with Q6_K in half of the layers.
    Q5KM,
}

impl From<BlockFormat> for Recipe {
    fn from(format: BlockFormat) -> Recipe {
        Recipe::All(format)
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Recipe {
    /// Every recipe whose formats are encoded.
    pub fn known() -> impl Iterator<Item = Recipe> {
        let mixes = [Recipe::Q4KS, Recipe::Q4KM, Recipe::Q5KS, Recipe::Q5KM];
        BlockFormat::ENCODED.into_iter().map(Recipe::All).chain(mixes)
    }

    /// The recipe of a name; case does not matter.
    pub fn from_name(name: &str) -> Option<Recipe> {
        Recipe::known().find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// llama.cpp's name, such as `Q4_K_M`.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::All(format) => format.name(),
            Recipe::Q4KS => "Q4_K_S",
            Recipe::Q4KM => "Q4_K_M",
            Recipe::Q5KS => "Q5_K_S",
            Recipe::Q5KM => "Q5_K_M",
        }
    }

    /// The format of most matrices.
    pub fn base(self) -> BlockFormat {
        match self {
            Recipe::All(format) => format,
            Recipe::Q4KS | Recipe::Q4KM => BlockFormat::Q4K,
            Recipe::Q5KS | Recipe::Q5KM => BlockFormat::Q5K,
        }
    }

    /// The format of the tensor that a GGUF file of `layers` calls `name`. With `tied` the table of embeddings is the matrix of the logits too.
    pub(super) fn format(self, name: &str, layers: usize, tied: bool) -> BlockFormat {
        if let Recipe::All(format) = self {
            return format;
        }
        let mut parts = name.split('.');
        let layer = parts.next().filter(|first| *first == "blk").and(parts.next()).and_then(|at| at.parse().ok());
        let part = if layer.is_some() { parts.next().unwrap_or_default() } else { name };
        let layer: usize = layer.unwrap_or_default();
        match (self, part) {
            (_, "output.weight") => BlockFormat::Q6K,
            (_, "token_embd.weight") if tied => BlockFormat::Q6K,
            (Recipe::Q4KM | Recipe::Q5KM, "attn_v" | "ffn_down" | "ffn_down_exps") if more_bits(layer, layers) => {
                BlockFormat::Q6K
            }
            (Recipe::Q4KM, "attn_qkv") => BlockFormat::Q5K,
            (Recipe::Q5KM, "attn_qkv") => BlockFormat::Q6K,
            (Recipe::Q4KS, "attn_v") if layer < 4 => BlockFormat::Q5K,
            (Recipe::Q4KS, "ffn_down" | "ffn_down_exps") if layer < layers / 8 => BlockFormat::Q5K,
            _ => self.base(),
        }
    }

    /// llama.cpp's number for a file of the recipe (`llama_ftype`).
    pub(super) fn file_type(self) -> u32 {
        match self {
            Recipe::Q4KM => 15,
            Recipe::Q5KM => 17,
            Recipe::Q4KS => 14,
            Recipe::Q5KS => 16,
            Recipe::All(format) => match format {
                BlockFormat::F32 => 0,
                BlockFormat::F16 => 1,
                BlockFormat::Q4_0 => 2,
                BlockFormat::Q4_1 => 3,
                BlockFormat::Q8_0 => 7,
                BlockFormat::Q5_0 => 8,
                BlockFormat::Q5_1 => 9,
                BlockFormat::Q2K => 10,
                BlockFormat::Q3K => 11,
                BlockFormat::Q4K => 14,
                BlockFormat::Q5K => 16,
                BlockFormat::Q6K => 18,
                BlockFormat::IQ4NL => 25,
                BlockFormat::IQ4XS => 30,
                BlockFormat::BF16 => 32,
                // "Guessed": a reader looks at the tensors.
                _ => 1024,
            },
        }
    }
}

/// The layers that have more bits: the first eighth, the last, and every third between.
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layers of 16 that [`more_bits`] names, and those of a small model.
    #[test]
    fn the_mixes_are_the_published_ones() {
        let chosen = |layers: usize| (0..layers).filter(|at| more_bits(*at, layers)).collect::<Vec<_>>();
        assert_eq!(chosen(16), [0, 1, 4, 7, 10, 13, 14, 15]);
        assert_eq!(chosen(2), [1]);
        let of = |recipe: Recipe, name: &str| recipe.format(name, 16, false).name();
        assert_eq!(of(Recipe::Q4KM, "blk.4.attn_v.weight"), "Q6_K");
        assert_eq!(of(Recipe::Q4KM, "blk.5.attn_v.weight"), "Q4_K");
        assert_eq!(of(Recipe::Q5KM, "blk.15.ffn_down.weight"), "Q6_K");
        assert_eq!(of(Recipe::Q4KM, "blk.15.ffn_up.weight"), "Q4_K");
        assert_eq!(of(Recipe::Q4KM, "blk.3.attn_qkv.weight"), "Q5_K");
        assert_eq!(of(Recipe::Q4KS, "blk.3.attn_v.weight"), "Q5_K");
        assert_eq!(of(Recipe::Q4KS, "blk.1.ffn_down.weight"), "Q5_K");
        assert_eq!(of(Recipe::Q4KS, "blk.2.ffn_down.weight"), "Q4_K");
        assert_eq!(of(Recipe::Q5KS, "output.weight"), "Q6_K");
        assert_eq!(of(Recipe::Q4KM, "token_embd.weight"), "Q4_K");
        assert_eq!(Recipe::Q4KM.format("token_embd.weight", 16, true), BlockFormat::Q6K);
        assert_eq!(of(Recipe::All(BlockFormat::Q4K), "output.weight"), "Q4_K");
        assert_eq!(Recipe::from_name("q4_k_m"), Some(Recipe::Q4KM));
        assert_eq!(Recipe::from_name("Q4_K_L"), None);
    }
}
