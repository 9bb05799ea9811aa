//! What attention makes of keys and values that are no numbers, on every adapter and in every variant for a cache of floats: a token that does not see them is
//! none the worse for a key, and one that sees both is no number either.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

mod support;

use lampyris_engine::certify::Prepared;
use lampyris_engine::kernels::text::{Attention, CURSOR_WORDS};
use lampyris_engine::kernels::{Call, Case, Desc, Fill, Format, HostTensor, Tier};
use std::sync::Arc;
use support::{devices, noise};

/// Tokens of a run that begins at a position, with room for more.
const TOKENS: usize = 5;
const POSITION: usize = 70;
const CONTEXT: usize = 90;
/// The third of the run's tokens is the first that sees it.
const BROKEN: usize = POSITION + 2;
const HEADS: usize = 4;
const HEAD: usize = 24;

fn case() -> Case {
    let scale = 1.0 / (HEAD as f32).sqrt();
    let kernel =
        Attention { query_heads: HEADS, key_heads: 2, head: HEAD, scale, window: None, softcap: None, parts: 1 };
    let cache = Desc::f32([CONTEXT, 2, HEAD]);
    let inputs = vec![
        (Desc::f32([TOKENS, HEADS * HEAD]), Fill::Range(-2.0, 2.0)),
        (cache.clone(), Fill::Range(-2.0, 2.0)),
        (cache, Fill::Range(-2.0, 2.0)),
        (Desc::new(Format::Word, [CURSOR_WORDS]), Fill::Words(vec![POSITION as u32, TOKENS as u32])),
    ];
    Case { label: "broken".to_owned(), kernel: Arc::new(kernel), inputs, tier: Tier::Full }
}

/// Inputs of noise, with what lies at [`BROKEN`] no number in the tensors of these numbers.
fn inputs(case: &Case, broken: &[usize]) -> Vec<HostTensor> {
    let made = |(at, (desc, fill)): (usize, &(Desc, Fill))| match fill {
        Fill::Words(words) => HostTensor { desc: desc.clone(), words: words.clone() },
        _ => {
            let mut values = noise(desc, 1 + at as u64).values();
            if broken.contains(&at) {
                values[BROKEN * 2 * HEAD..][..2 * HEAD].fill(f32::NAN);
            }
            HostTensor::from_values(desc.clone(), &values)
        }
    };
    case.inputs.iter().enumerate().map(made).collect()
}

/// Rows of a token that sees what is broken, and of one that does not.
fn halves(output: &HostTensor) -> [Vec<f32>; 2] {
    let values = output.values();
    let (before, after) = values.split_at((BROKEN - POSITION) * HEADS * HEAD);
    [before.to_vec(), after.to_vec()]
}

#[test]
fn what_is_no_number_is_none_where_it_is_seen_and_harms_nobody_else() {
    let case = case();
    let prepared = Prepared::new(&case).unwrap();
    let descs: Vec<Desc> = case.inputs.iter().map(|(desc, _)| desc.clone()).collect();
    let outputs = case.kernel.outputs(&descs).unwrap();
    let tolerance = case.kernel.tolerance(&Call { inputs: &descs, outputs: &outputs }).relative as f32;
    let twin = |given: &[HostTensor]| {
        let given: Vec<&HostTensor> = given.iter().collect();
        halves(&case.kernel.reference(&given, &outputs)[0])
    };
    let (key, both) = (inputs(&case, &[1]), inputs(&case, &[1, 2]));
    let [expected, seen] = twin(&key);
    assert!(expected.iter().all(|value| value.is_finite()) && seen.iter().all(|value| value.is_nan()));
    let [_, seen] = twin(&both);
    assert!(seen.iter().all(|value| value.is_nan()));
    let largest = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    for gpu in devices() {
        for source in prepared.variants(&gpu).unwrap() {
            let what = format!("{} on {}", source.label, gpu.summary());
            let plan = gpu.block_on(prepared.load(&gpu, source)).unwrap();
            let run = |given: &[HostTensor]| halves(&gpu.block_on(plan.run_tensors(given)).unwrap()[0]);
            let [found, seen] = run(&key);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= tolerance * largest, "{what}: {found} for {expected}");
            }
            // A key alone is left to the driver: `docs/numerics.md`.
            let numbers = seen.iter().filter(|value| value.is_finite()).count();
            eprintln!("{what}: a key alone leaves {numbers} of {} values numbers", seen.len());
            let [_, seen] = run(&both);
            assert!(seen.iter().all(|value| value.is_nan()), "{what}: {seen:?}");
        }
    }
}
