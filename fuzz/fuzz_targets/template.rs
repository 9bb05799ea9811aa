//! Any text is a chat template or refused, and any template ends on any conversation: with a text or one error, never in a panic and
//! never without an end. The texts of a conversation follow the template behind bytes of 0, by turns a user's and a model's.

#![no_main]

use lampyris_models::text::{ChatTemplate, Conversation, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let source = parts.next().unwrap_or_default();
    let Ok(template) = ChatTemplate::new(source) else { return };
    let template = template.token("bos_token", "<s>").token("eos_token", "</s>");
    let turn = |(at, text): (usize, &str)| if at % 2 == 0 { Message::user(text) } else { Message::assistant(text) };
    let conversation = Conversation::new(parts.enumerate().map(turn));
    for conversation in [conversation.clone(), conversation.without_answer()] {
        if let Err(error) = template.render(&conversation) {
            assert!(!error.to_string().is_empty());
        }
    }
});
