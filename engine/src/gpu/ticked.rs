//! What runs by ticks take of a device beside their plans, known before anything is allocated.

use super::Course;
use super::course::MOST_RESULTS;
use super::flight::Slot;
use super::pieces::Pieces;
use crate::plan::{Plan, PlanBytes};

impl Course {
    /// What a course of `plans` takes beside them, with room for `words` words that one tick may write. Its ticks' buffers are counted as
    /// activations, exactly. As params, at most, what tells the pieces of long steps where they begin: how finely steps are cut depends on how
    /// long they are found to take. When a plan is cut anew its old pieces are there for a moment still, which is counted.
    pub fn bytes<'a>(plans: impl IntoIterator<Item = &'a Plan>, words: usize) -> PlanBytes {
        let (mut result, mut pieces, mut anew) = (0, 0, 0);
        for plan in plans {
            let bytes: u64 = plan.outputs.iter().map(|(_, id)| plan.tensor(*id).desc.bytes()).sum();
            let cut = Pieces::most_bytes(plan);
            result = bytes.max(result);
            pieces += cut;
            anew = cut.max(anew);
        }
        let activations = Slot::all_bytes(words as u64 * 4, result * kept_results(result));
        PlanBytes { activations, params: pieces + anew, ..PlanBytes::default() }
    }
}

/// Most bytes of the results of one tick, where one run has fewer.
const MOST_BYTES: u64 = 1 << 16;

/// Runs whose results one tick has room for, where those of one are so large.
pub(super) fn kept_results(bytes: u64) -> u64 {
    (MOST_BYTES / bytes.max(1)).clamp(1, MOST_RESULTS as u64)
}
