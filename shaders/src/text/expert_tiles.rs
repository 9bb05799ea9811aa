//! The choices that go to each expert, side by side: what lets a prompt's chunk read an expert once for many of its tokens.

use crate::{
    Call, Caps, Case, Desc, Fill, Format, HostTensor, Kernel, Launch, ShapeError, Source, Tier, Tolerance, Work,
    fitting, traffic,
};
use std::any::Any;
use std::sync::Arc;

/// The linked variants.
pub(super) const SOURCES: &[Source] = crate::linked::EXPERT_TILES;

/// The choices of a run's tokens in tiles of 32, all of a tile of one expert.
///
/// Input: the experts `[m, chosen]` of each token as words. Output: `[tiles, 33]` words, an expert and the numbers `token * chosen + slot`
/// of choices that go to it; [`ExpertTiles::NONE`] where a tile has no more, and in all of the tiles that are left over. Experts come in
/// their order, and so do the choices of each; expert `e` begins at tile `p / 32 + e`, where `p` choices go to those before it, so that each
/// finds its tiles alone. A choice of [`ExpertTiles::experts`] or beyond is in no tile. (A counting sort.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertTiles {
    /// Experts that there are.
    pub experts: usize,
}

impl ExpertTiles {
    /// Choices of a tile.
    pub const TILE: usize = 32;
    /// No expert, and no choice.
    pub const NONE: u32 = u32::MAX;

    /// Tiles that hold `choices`, wherever they go: beside what they fill each expert has one at most.
    pub fn tiles(self, choices: usize) -> usize {
        choices / Self::TILE + self.experts
    }

    /// The output for `choices`.
    pub fn desc(self, choices: usize) -> Desc {
        Desc::new(Format::Word, [self.tiles(choices), Self::TILE + 1])
    }
}

impl Kernel for ExpertTiles {
    fn name(&self) -> &'static str {
        "expert_tiles"
    }

    fn summary(&self) -> String {
        format!("of {}", self.experts)
    }

    fn outputs(&self, inputs: &[Desc]) -> Result<Vec<Desc>, ShapeError> {
        let kernel = self.name();
        let [chosen] = inputs else {
            return Err(ShapeError::Count { kernel, expected: "experts", found: inputs.len() });
        };
        if chosen.format != Format::Word || chosen.shape.len() != 2 || chosen.is_empty() {
            let (expected, found) = ("experts [tokens, chosen] as words, not empty".to_owned(), chosen.clone());
            return Err(ShapeError::Input { kernel, position: 0, expected, found });
        }
        if self.experts == 0 || self.experts > super::Route::MAX_EXPERTS {
            let reason = format!("{} experts; it takes 1 to {}", self.experts, super::Route::MAX_EXPERTS);
            return Err(ShapeError::Parameter { kernel, reason });
        }
        Ok(vec![self.desc(chosen.len())])
    }

    fn sources(&self) -> &'static [Source] {
        SOURCES
    }

    fn candidates(&self, _call: &Call<'_>, caps: &Caps) -> Vec<&'static Source> {
        fitting(SOURCES, &[], caps).collect()
    }

    fn launch(&self, call: &Call<'_>, _source: &Source) -> Launch {
        let params = vec![call.inputs[0].len() as u32, self.experts as u32, call.outputs[0].rows() as u32];
        Launch::new(call, params, [self.experts as u32, 1, 1])
    }

    fn reference(&self, inputs: &[&HostTensor], outputs: &[Desc]) -> Vec<HostTensor> {
        let mut words = vec![Self::NONE; outputs[0].len()];
        for expert in 0..self.experts as u32 {
            let before = inputs[0].words.iter().filter(|chosen| **chosen < expert).count();
            let first = before / Self::TILE + expert as usize;
            let own = inputs[0].words.iter().enumerate().filter(|(_, chosen)| **chosen == expert);
            for (at, (choice, _)) in own.enumerate() {
                let tile = (first + at / Self::TILE) * (Self::TILE + 1);
                words[tile] = expert;
                words[tile + 1 + at % Self::TILE] = choice as u32;
            }
        }
        vec![HostTensor::from_words(outputs[0].clone(), words)]
    }

    /// Whole words, none of which may differ.
    fn tolerance(&self, _call: &Call<'_>) -> Tolerance {
        Tolerance::EXACT
    }

    fn work(&self, call: &Call<'_>) -> Work {
        Work { flops: 2.0 * (self.experts * call.inputs[0].len()) as f64, bytes: traffic(call) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Experts with no choice, some, and more than a tile; choices on and off the loads and the tiles; experts beyond those that there are.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |tier: Tier, what: &str, [m, chosen, experts]: [usize; 3], expert: fn(usize, usize) -> usize| {
        let words: Vec<u32> = (0..m * chosen).map(|choice| expert(choice, experts) as u32).collect();
        let inputs = vec![(Desc::new(Format::Word, [m, chosen]), Fill::Words(words))];
        let label = format!("{m}x{chosen}of{experts}.{what}");
        cases.push(Case { label, kernel: Arc::new(ExpertTiles { experts }), inputs, tier });
    };
    add(Tier::Short, "spread", [37, 3, 7], |choice, of| (choice * 5 + choice / 9) % of);
    add(Tier::Short, "one", [65, 1, 4], |_, _| 2);
    add(Tier::Short, "beyond", [9, 2, 3], |choice, of| choice % (of + 2));
    for m in [1, 2, 31, 32, 33, 341, 342, 512] {
        add(Tier::Full, "spread", [m, 3, 40], |choice, of| (choice * 7 + choice / 11) % of);
        add(Tier::Full, "last", [m, 2, 300], |_, of| of - 1);
    }
    add(Tier::Full, "every", [400, 2, 1024], |choice, of| choice % of);
    add(Tier::Model, "spread", [512, 8, 128], |choice, of| (choice * 37 + choice / 128) % of);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_in_the_tiles_once_and_with_its_expert() {
        for case in cases() {
            let (kernel, chosen) = (case.kernel.clone(), &case.tensors()[0]);
            let tiles = kernel.as_any().downcast_ref::<ExpertTiles>().unwrap();
            let found = &kernel.reference(&[chosen], &kernel.outputs(std::slice::from_ref(&chosen.desc)).unwrap())[0];
            let mut seen = vec![0; chosen.words.len()];
            for tile in found.words.chunks(33) {
                for choice in tile[1..].iter().filter(|choice| **choice != ExpertTiles::NONE) {
                    assert_eq!(chosen.words[*choice as usize], tile[0], "{}", case.label);
                    seen[*choice as usize] += 1;
                }
            }
            let expected: Vec<i32> = chosen.words.iter().map(|e| i32::from((*e as usize) < tiles.experts)).collect();
            assert_eq!(seen, expected, "{}", case.label);
        }
    }

    /// The least room and the most: no choices but of one expert, and one more than fills the tiles of each.
    #[test]
    fn no_expert_reaches_into_the_tiles_of_the_next() {
        for (experts, each) in [(1, 1), (1, 64), (3, 33), (7, 65), (128, 1), (5, 31), (5, 32)] {
            let kernel = ExpertTiles { experts };
            let mut choices: Vec<u32> = (0..experts * each).map(|i| (i % experts) as u32).collect();
            for last in [0, experts as u32 - 1] {
                let desc = kernel.desc(choices.len());
                let chosen = HostTensor::from_words(Desc::new(Format::Word, [choices.len(), 1]), choices.clone());
                let tiles = kernel.reference(&[&chosen], std::slice::from_ref(&desc)).remove(0).words;
                let held = tiles.chunks(33).flat_map(|tile| &tile[1..]).filter(|it| **it != ExpertTiles::NONE).count();
                assert_eq!((held, tiles.len()), (choices.len(), desc.len()), "{experts} experts, {each} each");
                choices.fill(last);
            }
        }
        assert_eq!(ExpertTiles { experts: 128 }.tiles(4096), 256);
    }
}
