//! Answers that are ticked in a host's frames until they are there, and what nobody has cut, to compare them with.

#![allow(dead_code, unreachable_pub, reason = "each program of tests uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use super::support::host::Host;
use lampyris::models::decoder::{Decoder, DrivenSession, Sampling, Session, SessionOptions};
use lampyris::{Budget, Gpu, Tick, wgpu};
use std::time::Duration;

pub(crate) fn text(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i * i + 3 * i) % 61).collect()
}

pub(crate) fn encoder(host: &Host) -> wgpu::CommandEncoder {
    host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("the host's frame") })
}

/// What follows the header of a saved session, whose entries may stand in any order.
pub(crate) fn cache_of(saved: &[u8]) -> Vec<u8> {
    let header = u64::from_le_bytes(saved[..8].try_into().unwrap()) as usize;
    saved[8 + header..].to_vec()
}

/// The tokens and the cache of an answer that nobody has cut.
pub(crate) fn uncut(
    gpu: &Gpu,
    model: &Decoder,
    options: SessionOptions,
    (prompt, most, how): Asked<'_>,
) -> (Vec<u32>, Vec<u8>) {
    let mut session = gpu.block_on(model.session(options)).unwrap();
    gpu.block_on(session.feed(prompt)).unwrap();
    let mut generation = session.sample(most, how).unwrap();
    let tokens = std::iter::from_fn(|| gpu.block_on(generation.next()).unwrap()).collect();
    (tokens, cache_of(&gpu.block_on(session.save()).unwrap()))
}

/// A prompt, the most tokens that are to follow, and how they are chosen.
pub(crate) type Asked<'a> = (&'a [u32], usize, &'a Sampling);

/// Draws frames until the answer is there, each with a budget of `budget`'s; `submit` does with an encoder what the host does.
pub(crate) fn answer(
    (host, driven): (&Host, &mut DrivenSession),
    budget: &mut dyn FnMut() -> Duration,
    submit: &mut dyn FnMut(wgpu::CommandEncoder),
) -> (Vec<u32>, usize) {
    let (mut tokens, mut frames) = (Vec::new(), 0);
    for _ in 0..100_000 {
        let mut frame = encoder(host);
        let tick = driven.tick(&mut frame, &mut Budget::gpu(budget())).unwrap();
        submit(frame);
        frames += 1;
        match tick {
            Tick::Pieces(more) => tokens.extend(more),
            Tick::Done(summary) => {
                assert_eq!(summary.tokens, tokens.len());
                return (tokens, frames);
            }
            // Nothing can be recorded until something arrives, for which a busy machine takes its time.
            Tick::Working(progress) if progress.steps == 0 => std::thread::sleep(Duration::from_micros(300)),
            Tick::Working(_) => {}
            other => panic!("{other:?} on {}", host.name),
        }
    }
    panic!("no answer in 100,000 frames on {}", host.name);
}

/// The session of an answer that has come to its end.
pub(crate) fn settled(host: &Host, gpu: &Gpu, mut driven: DrivenSession) -> Session {
    for _ in 0..100_000 {
        match driven.into_session() {
            Ok(session) => return session,
            Err(again) => driven = *again,
        }
        host.queue.submit([]);
        gpu.pump();
        std::thread::sleep(Duration::from_micros(100));
    }
    panic!("commands are under way for ever on {}", host.name);
}
