//! What ticks do with budgets: no more than there is, and most of it while something is waiting, whoever is ticked and whether the device has a clock
//! or not. Needs no file but a fixture.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::decoders::noise;
use crate::support::host::{Host, hosts};
use crate::support::{fixture, full_tier};
use crate::ticks::{cache_of, encoder, settled, text, uncut};
use lampyris::engine::gpu::{Few, StepTimes};
use lampyris::engine::kernels::Noise;
use lampyris::models::decoder::{Decoder, DrivenSession, Sampling, SessionOptions};
use lampyris::{Budget, Classifier, ClassifierOptions, Gpu, Input, Loading, Tick, wgpu};
use std::time::Duration;

const CONFIG: &str = r#"{"model_type": "qwen3", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 161, "max_position_embeddings": 20000,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": true}"#;

/// A table of 17 megabytes.
const LARGE: &str = r#"{"model_type": "llama", "hidden_size": 128, "intermediate_size": 40, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 32768, "max_position_embeddings": 2048,
    "tie_word_embeddings": true}"#;

/// What a tick is expected to take is no more than there is. The exception is the one that the budget tells of beforehand: a budget that nobody
/// has used pays for a single dispatch, whatever that takes, unless it is strict.
#[test]
fn no_tick_takes_more_than_there_is() {
    for host in hosts() {
        let (gpu, mut noisy) = (host.guest(), Noise::new(41));
        let model = Decoder::new(&gpu, noise(CONFIG, &[], &[])).unwrap();
        let (greedy, prompt, options) = (Sampling::greedy(), text(150), SessionOptions::from(200));
        let expected = uncut(&gpu, &model, options, (&prompt, 20, &greedy));
        let (mut within, mut beyond) = (0, 0);
        for round in 0..4 {
            let session = gpu.block_on(model.session(options)).unwrap();
            let mut driven = session.driven().finest(Duration::from_micros(if round < 2 { 30 } else { 1000 }));
            driven.generate(&prompt, 20, &greedy);
            let tokens = judged((&host, &gpu, &mut driven), &mut |driven, frame| {
                // From a tenth of the longest step to ten times as much, as it is known meanwhile: a strict one never begins what is longer.
                let longest = driven.times().map_or(1e-4, longest);
                let time = Duration::from_secs_f64(longest * 10f64.powf(f64::from(noisy.real(-1.0, 1.0))));
                let mut budget = if round % 2 == 0 { Budget::gpu(time) } else { Budget::gpu(time).strict() };
                // Now and then the host has used a part of it.
                if noisy.real(0.0, 1.0) < 0.3 {
                    budget.take(time.mul_f32(noisy.real(0.01, 0.99)));
                }
                let before = budget.used();
                let (tick, exceeds) = exceeded(&gpu, &mut budget, &mut |budget| driven.tick(frame, budget).unwrap());
                *(if exceeds { &mut beyond } else { &mut within }) += usize::from(budget.used() > before);
                tick
            });
            assert_eq!(tokens, expected.0, "{}: round {round}", host.name);
            let session = settled(&host, &gpu, driven);
            assert!(cache_of(&gpu.block_on(session.save()).unwrap()) == expected.1, "{}: another cache", host.name);
        }
        eprintln!("{}: {within} ticks within their budgets, {beyond} of a single dispatch beyond", host.name);
        assert!(within > 20 && (beyond > 2 || !gpu.caps().software), "{}: {within} and {beyond} ticks", host.name);
    }
}

/// What one tick did with its budget: no more than there is, unless an untouched budget pays for a single dispatch; whether it is the exception.
fn exceeded(
    gpu: &Gpu,
    budget: &mut Budget,
    tick: &mut dyn FnMut(&mut Budget) -> Tick<Few<u32>>,
) -> (Tick<Few<u32>>, bool) {
    let (fresh, before) = (budget.is_fresh(), gpu.counts().dispatches);
    let tick = tick(budget);
    let dispatches = gpu.counts().dispatches - before;
    let fits = budget.used() <= budget.whole();
    // Pieces of one step that run together are one dispatch.
    let single = dispatches == 1 && !matches!(&tick, Tick::Working(progress) if progress.steps > 1);
    assert!(fits || fresh && single, "{dispatches} dispatches, {tick:?}, {budget:?}");
    (tick, !fits)
}

/// A table of many words is by far the longest step: cut by its rows it goes with the budgets of frames that the whole does not fit.
#[test]
fn a_large_head_fits_half_a_millisecond() {
    let (time, greedy, prompt) = (Duration::from_micros(500), Sampling::greedy(), text(5));
    let (files, options) = (noise(LARGE, &[], &[]), SessionOptions::from(40));
    let of_token = |driven: &DrivenSession| driven.times().unwrap()[1].seconds().to_vec();
    for host in hosts() {
        let measured = || {
            // Each handle measures for itself.
            let gpu = host.guest();
            let model = Decoder::new(&gpu, files.clone()).unwrap();
            let fresh = || gpu.block_on(model.session(options)).unwrap().driven();
            let [whole, cut] = [fresh().finest(Duration::from_secs(1000)), fresh()]
                .map(|driven| gpu.block_on(driven.measured(&greedy)).unwrap());
            let (steps, pieces) = (of_token(&whole), of_token(&cut));
            let [head, floor] = [&steps, &pieces].map(|times| times.iter().copied().fold(0.0, f64::max));
            // The pieces of a step take even parts of its time. Sixty-four are made at most, or some fewer so that none is empty.
            let mut next = 0;
            let counts = steps.iter().map(|step| {
                let piece = pieces[next];
                let count = if piece > 0.0 { (step / piece).round().max(1.0) as usize } else { 1 };
                next += count;
                (step, piece, count)
            });
            let (_, piece, count) = counts.filter(|(step, ..)| **step == head).last().unwrap();
            // On a software adapter the head is much longer than any piece, unless something else had the machine while one was measured.
            let clear = !gpu.caps().software || count > 1 && head > 4.0 * floor;
            clear.then_some((gpu, model, [whole, cut], (head, piece, count)))
        };
        let found = (0..6).find_map(|_| measured());
        let (gpu, model, [mut whole, mut cut], (head, piece, count)) =
            found.unwrap_or_else(|| panic!("{}: the head is not cut", host.name));
        assert!(piece <= time.as_secs_f64() || count > 60, "{}: {count} pieces of {piece} of {head}", host.name);
        let expected = uncut(&gpu, &model, options, (&prompt, 4, &greedy));
        let tell = |driven: &mut DrivenSession, budget: &dyn Fn(&DrivenSession) -> Budget| {
            let (mut beyond, mut frames) = (0, 0);
            driven.generate(&prompt, 4, &greedy);
            let tokens = judged((&host, &gpu, driven), &mut |driven, frame| {
                let mut budget = budget(driven);
                let (tick, exceeds) = exceeded(&gpu, &mut budget, &mut |budget| driven.tick(frame, budget).unwrap());
                (beyond, frames) = (beyond + usize::from(exceeds), frames + 1);
                tick
            });
            assert_eq!(tokens, expected.0, "{}", host.name);
            (beyond, frames)
        };
        // Twice what the longest step is taken for by then: on a busy machine that grows.
        let enough = |driven: &DrivenSession| {
            let longest = longest(driven.times().into_iter().flatten());
            Budget::gpu(Duration::from_secs_f64(2.0 * longest)).strict()
        };
        let fresh = gpu.block_on(model.session(options)).unwrap().driven();
        let strict = tell(&mut gpu.block_on(fresh.measured(&greedy)).unwrap(), &enough);
        let [of_whole, of_cut] = [&mut whole, &mut cut].map(|driven| tell(driven, &|_| Budget::gpu(time)));
        eprintln!("{}: {head:.6} s in {count} pieces of {piece:.6}", host.name);
        eprintln!("{}: whole {of_whole:?}, cut {of_cut:?}, strict {strict:?}", host.name);
        assert_eq!(strict.0, 0, "{}: a strict budget was exceeded", host.name);
        // Whole, it fits no such budget on a software adapter, so that this can fail.
        if gpu.caps().software {
            assert!(of_whole.0 >= 4 && of_cut.1 > of_whole.1, "{}: {of_whole:?} and {of_cut:?}", host.name);
        }
        let session = settled(&host, &gpu, cut);
        assert!(cache_of(&gpu.block_on(session.save()).unwrap()) == expected.1, "{}: another cache", host.name);
    }
}

/// Draws frames until the answer is there, each ticked by `tick`; the device has done each before the next one.
fn judged(
    (host, gpu, driven): (&Host, &Gpu, &mut DrivenSession),
    tick: &mut dyn FnMut(&mut DrivenSession, &mut wgpu::CommandEncoder) -> Tick<Few<u32>>,
) -> Vec<u32> {
    let mut tokens = Vec::new();
    for _ in 0..100_000 {
        let mut frame = encoder(host);
        let told = tick(driven, &mut frame);
        host.queue.submit([frame.finish()]);
        gpu.block_on(gpu.idle()).unwrap();
        match told {
            Tick::Pieces(more) => tokens.extend(more),
            Tick::Working(_) => {}
            Tick::Done(_) => return tokens,
            other => panic!("{other:?} on {}", host.name),
        }
    }
    panic!("no answer in 100,000 frames on {}", host.name);
}

/// Frames that something was waiting in, at least, and how often an answer or a picture may be asked for until there were so many: where one step was
/// measured as very long, so are the budgets.
const FRAMES: usize = 4;
const ROUNDS: u32 = 8;

/// What ticks used of their budgets while something was waiting: in all frames that a later one of the same work has followed which began something.
#[derive(Default)]
struct Share {
    used: f64,
    given: f64,
    frames: usize,
    /// The last one that has begun something, and those since that have not.
    held: [f64; 2],
    since: usize,
}

impl Share {
    fn add(&mut self, budget: &Budget) {
        let [used, given] = [budget.used(), budget.whole()].map(|time| time.as_secs_f64());
        if given <= 0.0 {
            // Nothing was known of the steps yet.
        } else if used > 0.0 {
            (self.used, self.given) = (self.used + self.held[0], self.given + self.held[1]);
            self.frames += self.since;
            (self.held, self.since) = ([used, given], 1);
        } else if self.since > 0 {
            (self.held[1], self.since) = (self.held[1] + given, self.since + 1);
        }
    }

    /// Nothing more was waiting.
    fn over(&mut self) {
        (self.held, self.since) = Default::default();
    }

    /// Eighty percent at least, and no more than there was: no step takes more than a tenth of these budgets.
    fn judge(&self, what: &str, host: &Host) -> f64 {
        let share = self.used / self.given;
        eprintln!("{}, {what}: {share:.3} of the budgets of {} frames was used", host.name, self.frames);
        assert!(share > 0.8 && share <= 1.0, "{}, {what}: {share} of {} frames", host.name, self.frames);
        assert!(self.frames > FRAMES, "{}, {what}: only {} frames", host.name, self.frames);
        share
    }
}

/// What the longest step takes.
fn longest<'a>(times: impl IntoIterator<Item = &'a StepTimes>) -> f64 {
    times.into_iter().flat_map(StepTimes::seconds).copied().fold(0.0, f64::max)
}

/// A budget of which no step of `times` takes more than a tenth, as they are found to be meanwhile.
fn tenfold<'a>(times: impl IntoIterator<Item = &'a StepTimes>) -> Budget {
    Budget::gpu(Duration::from_secs_f64(10.0 * longest(times)))
}

fn sum(times: &StepTimes) -> f64 {
    times.of(0..times.len())
}

/// What an answer uses of its budgets.
fn of_answer((host, gpu, driven): (&Host, &Gpu, &mut DrivenSession), prompt: u32, most: usize) -> Share {
    let mut share = Share::default();
    for round in 0..ROUNDS {
        // Another text each time, of which nothing is computed already.
        let prompt_tokens: Vec<u32> = text(prompt).into_iter().map(|token| (token + round) % 61).collect();
        driven.generate(&prompt_tokens, most, &Sampling::greedy());
        judged((host, gpu, driven), &mut |driven, frame| {
            // Of a prompt of one token there is nothing to be computed before.
            let times = driven.times().into_iter().flatten().skip(usize::from(prompt == 1));
            let mut budget = tenfold(times);
            let tick = driven.tick(frame, &mut budget).unwrap();
            share.add(&budget);
            tick
        });
        share.over();
        if share.frames > FRAMES {
            break;
        }
    }
    share
}

/// What pictures in pieces use of theirs.
fn of_pictures(host: &Host) -> Share {
    let options = ClassifierOptions::default().side(448);
    let measured = || {
        // Each handle measures for itself: again where something else had the machine while one step was measured.
        let gpu = host.guest();
        let loaded = Classifier::load_with(&gpu, fixture("mobilenet_v3_small_w025"), options.clone(), |_| ());
        let mut eyes = gpu.block_on(gpu.block_on(loaded).unwrap().driven()).unwrap();
        gpu.block_on(eyes.measure()).unwrap();
        let times = eyes.times().unwrap();
        assert!(times.is_measured(), "{}", host.name);
        (sum(times) / longest([times]), gpu, eyes)
    };
    let (_, gpu, mut eyes) = (0..4).map(|_| measured()).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    let (pixels, mut share) = (vec![99; 64 * 64 * 4], Share::default());
    for _ in 0..ROUNDS {
        let mut looking = false;
        loop {
            let (mut frame, mut budget) = (encoder(host), tenfold(eyes.times()));
            let tick = if looking {
                eyes.tick(&mut frame, &mut budget).unwrap()
            } else {
                eyes.look(&mut frame, &mut budget, Input::rgba8(pixels.as_slice(), 64, 64)).unwrap();
                looking = true;
                Tick::Idle
            };
            host.queue.submit([frame.finish()]);
            gpu.block_on(gpu.idle()).unwrap();
            share.add(&budget);
            if let Tick::Done(_) = tick {
                break;
            }
        }
        share.over();
        if share.frames > FRAMES {
            break;
        }
    }
    share
}

/// With work waiting most of a budget is used: by what steps are expected to take, which is all that a tick knows.
#[test]
fn most_of_a_budget_is_used() {
    for host in hosts() {
        // The second has no clock: times are measured by waits while loading, and nothing is learnt afterwards.
        for host in [host.another(), host.without(wgpu::Features::TIMESTAMP_QUERY)] {
            let gpu = host.guest();
            let clock = if gpu.caps().timestamps { "with a clock" } else { "without a clock" };
            let greedy = Sampling::greedy();
            let driven = |gpu: &Gpu, config: &str, finest: Duration| {
                let model = Decoder::new(gpu, noise(config, &[], &[])).unwrap();
                gpu.block_on(model.session(1100)).unwrap().driven().finest(finest)
            };
            // Each handle measures for itself: that of three is taken whose longest step is the least part of the whole, for something else may
            // have had the machine while one was measured.
            let measured = |config: &str, finest: Duration| {
                let tries = (0..3).map(|_| {
                    let gpu = host.guest();
                    let driven = gpu.block_on(driven(&gpu, config, finest).measured(&greedy)).unwrap();
                    let times = driven.times().unwrap();
                    assert!(times.iter().all(|times| times.is_measured()), "{}", host.name);
                    (times.iter().map(|it| sum(it)).sum::<f64>() / longest(times), gpu, driven)
                });
                let (_, gpu, driven) = tries.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
                (gpu, driven)
            };
            // Steps so long and so many that a budget is used up long before a prompt, a token or a picture is done.
            let [short, long] = [20, 500].map(Duration::from_micros);
            let (gpu, mut prompt) = measured(CONFIG, short);
            of_answer((&host, &gpu, &mut prompt), 1000, 1).judge(&format!("a prompt {clock}"), &host);
            let (gpu, mut tokens) = measured(LARGE, long);
            let token = sum(tokens.times().unwrap()[1]);
            of_answer((&host, &gpu, &mut tokens), 1, 10).judge(&format!("tokens {clock}"), &host);
            if gpu.caps().timestamps || full_tier() {
                of_pictures(&host).judge(&format!("pictures {clock}"), &host);
            }
            if !gpu.caps().timestamps {
                // Nothing was measured, and nothing can be learnt: most of a budget is used by what is guessed, whatever that is in truth.
                let gpu = host.guest();
                let mut tokens = driven(&gpu, LARGE, long);
                let share = of_answer((&host, &gpu, &mut tokens), 1, 10);
                let guess = tokens.times().unwrap()[1];
                assert!(!guess.is_measured(), "{}: something was learnt without a clock", host.name);
                let truth = share.judge("tokens by guesses", &host) * token / sum(guess);
                eprintln!("{}: by guesses alone {truth:.3} of the budgets in truth", host.name);
            }
        }
    }
}

/// Of steps that were never measured only a part of each budget is given out; a strict one that would pay for the longest of them is enough all the
/// same, for what is never begun is never learnt.
#[test]
fn what_was_never_measured_is_begun() {
    for host in hosts() {
        let gpu = host.guest();
        let classifier = gpu.block_on(Classifier::load(&gpu, &fixture("mobilenet_v3_small_w025"))).unwrap();
        let mut eyes = gpu.block_on(classifier.driven()).unwrap();
        let times = eyes.times().unwrap();
        assert!(!times.is_measured(), "{}", host.name);
        assert!(8.0 * times.seconds()[0] > 1.5 * longest([times]), "{}: an eighth would do", host.name);
        let (pixels, mut seen) = (vec![99; 64 * 64 * 4], false);
        for frame_number in 0..10_000 {
            let mut frame = encoder(&host);
            let mut budget = Budget::gpu(Duration::from_secs_f64(1.5 * longest(eyes.times()))).strict();
            if frame_number == 0 {
                eyes.look(&mut frame, &mut budget, Input::rgba8(pixels.as_slice(), 64, 64)).unwrap();
            } else {
                seen = matches!(eyes.tick(&mut frame, &mut budget).unwrap(), Tick::Done(_));
            }
            host.queue.submit([frame.finish()]);
            gpu.block_on(gpu.idle()).unwrap();
            if seen {
                break;
            }
        }
        assert!(seen, "{}: a picture is not seen in 10,000 frames", host.name);
    }
}

#[test]
fn most_of_a_budget_is_used_to_load() {
    for host in hosts() {
        let gpu = host.guest();
        let model = Decoder::new(&gpu, noise(LARGE, &[], &[])).unwrap();
        let mut loading = Loading::new(async move { model.load(|_, _| ()).await });
        let (mut share, mut over) = (Share::default(), false);
        while !over {
            let mut budget = Budget::gpu(Duration::from_micros(500));
            over = matches!(loading.load(&mut budget).unwrap(), Tick::Done(()));
            host.queue.submit([]);
            gpu.block_on(gpu.idle()).unwrap();
            share.add(&budget);
        }
        share.judge("weights", &host);
    }
}
