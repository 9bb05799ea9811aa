//! The vocabulary out of the head of a GGUF file, read as simply as well-formed files allow.

use super::super::GgufVocabulary;

/// Reads `tokenizer.*`; values are little-endian, strings and arrays begin with a length of eight bytes.
pub(super) fn vocabulary(file: &[u8]) -> GgufVocabulary {
    let mut head = Head(&file[16..]);
    let mut found = GgufVocabulary::default();
    for _ in 0..head.u64() {
        let key = head.text();
        let kind = head.u32();
        match key.strip_prefix("tokenizer.ggml.").unwrap_or(&key) {
            "model" => found.model = head.text(),
            "pre" => found.pre = Some(head.text()),
            "tokens" => found.tokens = head.list(Head::text),
            "merges" => found.merges = head.list(Head::text),
            "scores" => found.scores = head.list(|head| f32::from_bits(head.u32())),
            "token_type" => found.token_types = head.list(|head| head.u32() as i32),
            "bos_token_id" => found.bos = Some(head.u32()),
            "eos_token_id" => found.eos = Some(head.u32()),
            "unknown_token_id" => found.unknown = Some(head.u32()),
            "padding_token_id" => found.padding = Some(head.u32()),
            "add_bos_token" => found.add_bos = Some(head.take(1)[0] != 0),
            "add_eos_token" => found.add_eos = Some(head.take(1)[0] != 0),
            "add_space_prefix" => found.add_space_prefix = Some(head.take(1)[0] != 0),
            "tokenizer.chat_template" => found.chat_template = Some(head.text()),
            _ => head.skip(kind),
        }
    }
    found
}

/// What is left of the file.
struct Head<'a>(&'a [u8]);

impl Head<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let length = usize::try_from(self.u64()).unwrap();
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> T) -> Vec<T> {
        self.u32();
        (0..self.u64()).map(|_| item(self)).collect()
    }

    fn skip(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => drop(self.take(1).len()),
            2 | 3 => drop(self.take(2).len()),
            4..=6 => drop(self.take(4).len()),
            8 => drop(self.text()),
            9 => {
                let kind = self.u32();
                for _ in 0..self.u64() {
                    self.skip(kind);
                }
            }
            10..=12 => drop(self.take(8).len()),
            other => panic!("a value of the kind {other}"),
        }
    }
}
