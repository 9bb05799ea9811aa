//! Stories and answers in ticks: the text that comes in pieces is the text that comes at once. By the bundled storyteller.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use crate::support::full_tier;
use crate::support::host::{Host, hosts};
use lampyris::models::decoder::Sampling;
use lampyris::models::text::{Conversation, Message};
use lampyris::models::text_model::{AnswerOptions, DrivenText, TextModel};
use lampyris::{Budget, Error, Gpu, Summary, Tick, wgpu};
use std::time::Duration;

fn ask(text: &str) -> Conversation {
    Conversation::new([Message::user(text)])
}

/// The pieces of an answer, one after another.
fn told(host: &Host, npc: &mut DrivenText) -> (String, Summary) {
    let mut text = String::new();
    for frame in 0..100_000u64 {
        let mut encoder =
            host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("the host's frame") });
        let mut budget = Budget::gpu(Duration::from_micros(500 + 700 * (frame % 5)));
        let tick = npc.tick(&mut encoder, &mut budget).unwrap();
        host.queue.submit([encoder.finish()]);
        if frame % 4 == 0 {
            // A host that is held up by its display.
            host.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        }
        match tick {
            Tick::Pieces(piece) => text += &piece,
            Tick::Done(summary) => return (text, summary),
            Tick::Working(_) => {}
            other => panic!("{other:?} on {}", host.name),
        }
    }
    panic!("no answer on {}", host.name);
}

/// The answers to the same questions, each as a whole.
fn whole(gpu: &Gpu, model: &TextModel, asked: &[(Conversation, AnswerOptions)]) -> Vec<(String, usize)> {
    let mut session = gpu.block_on(model.session(400)).unwrap();
    let mut answers = Vec::new();
    for (conversation, options) in asked {
        let mut answer = gpu.block_on(session.chat(conversation, options.clone())).unwrap();
        let mut text = String::new();
        while let Some(piece) = gpu.block_on(answer.next()).unwrap() {
            text += &piece;
        }
        answers.push((text, answer.ids().len()));
    }
    answers
}

#[test]
fn what_is_told_in_pieces_is_what_is_told_at_once() {
    for host in hosts() {
        let gpu = host.guest();
        let model = TextModel::bundled(&gpu).unwrap();
        let request = "Write a story about Ida and a key.";
        let mut asked = vec![
            (ask(request), AnswerOptions::new(40).sampling(Sampling::greedy())),
            // Drawn tokens, another prompt, an end by a stop string and one by the model.
            (ask("Write a story about Tom and a boat."), AnswerOptions::new(30).sampling(Sampling::usual().seed(3))),
            (ask(request), AnswerOptions::new(60).sampling(Sampling::greedy()).stop(".")),
            (ask(request), AnswerOptions::new(300).sampling(Sampling::greedy())),
        ];
        asked.truncate(if full_tier() { 4 } else { 3 });
        let expected = whole(&gpu, &model, &asked);
        assert!(expected.iter().all(|(text, _)| text.len() > 10), "{expected:?}");
        let mut npc = gpu.block_on(model.session(400)).unwrap().driven();
        for ((conversation, options), (text, tokens)) in asked.iter().zip(&expected) {
            npc.chat(conversation, options.clone());
            let (found, summary) = told(&host, &mut npc);
            assert_eq!((&found, summary.tokens), (text, *tokens), "{}", host.name);
            assert!(summary.ticks > 1 && summary.ended == (summary.tokens < options.most), "{summary:?}");
        }
        assert!(!npc.tokens().session().tokens().is_empty());
        // Back to a session that is awaited: it goes on where the last answer ended.
        let length = npc.tokens().session().tokens().len();
        let mut back = loop {
            match npc.into_session() {
                Ok(session) => break session,
                Err(again) => npc = *again,
            }
            host.queue.submit([]);
            gpu.pump();
        };
        let mut more = gpu.block_on(back.resume(3)).unwrap();
        while gpu.block_on(more.next()).unwrap().is_some() {}
        assert!(back.tokens().tokens().len() > length);
        // What cannot be asked is said by a tick, and the session goes on.
        let mut npc = back.driven_generate("Once", AnswerOptions::new(3).stop(""));
        let mut encoder = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let error = npc.tick(&mut encoder, &mut Budget::gpu(Duration::from_millis(1))).unwrap_err();
        assert!(matches!(error, Error::Sampling { setting: "a stop string", .. }), "{error:?}");
        npc.generate("Once upon a time", 12);
        assert!(!told(&host, &mut npc).0.is_empty());
        assert_eq!(host.told(), (0, 0), "the host of {} heard of the guest", host.name);
    }
}
