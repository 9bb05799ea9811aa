//! Formats by name against the templates that models of these formats were published with.

use super::super::{ChatFormat, Conversation, Message, Tokenizer};
use super::material;
use super::templates::{conversation, recorded};

fn talk() -> Conversation {
    Conversation::new([Message::system("S"), Message::user("a"), Message::assistant("b"), Message::user("c")])
}

#[test]
fn a_format_writes_what_is_published_of_it() {
    let expected = [
        (
            ChatFormat::ChatMl,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n",
        ),
        (ChatFormat::Llama2, "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]"),
        (
            ChatFormat::Llama3,
            "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (ChatFormat::Mistral, "<s>[INST] S\n\na [/INST]b</s> [INST] c [/INST]"),
        (
            ChatFormat::Gemma,
            "<s><start_of_turn>user\nS\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            ChatFormat::Phi3,
            "<|system|>\nS<|end|>\n<|user|>\na<|end|>\n<|assistant|>\nb<|end|>\n<|user|>\nc<|end|>\n<|assistant|>\n",
        ),
        (
            ChatFormat::Alpaca,
            "<s>S\n\n### Instruction:\na\n\n### Response:\nb</s>\n\n### Instruction:\nc\n\n### Response:\n",
        ),
    ];
    assert_eq!(expected.map(|(format, _)| format), ChatFormat::ALL);
    for (format, text) in expected {
        let template = super::super::ChatTemplate::new(format.source()).unwrap();
        let template = template.token("bos_token", "<s>").token("eos_token", "</s>");
        assert_eq!(template.render(&talk()).unwrap(), text, "{}", format.name());
        assert_eq!(ChatFormat::from_name(&format.name().to_uppercase()), Some(format));
        assert!(format.marks().iter().all(|mark| text.contains(mark)), "{}", format.name());
        assert!(format.stop().is_none_or(|stop| text.contains(stop)), "{}", format.name());
    }
    assert_eq!(ChatFormat::from_name("vicuna"), None);
}

/// Whatever a template of the format makes of conversations that it knows, the format makes as well.
#[test]
fn formats_agree_with_published_templates() {
    let Some(folder) = material("chat templates") else { return };
    let (cases, _) = recorded(&folder);
    // Llama 2's leaves the first token to the tokenizer, and the first mark out where there is no system message. Roles and parts that only
    // some templates know are left out.
    let pairs = [
        (ChatFormat::ChatMl, "lc-teknium-OpenHermes-2.5-Mistral-7B", ""),
        (ChatFormat::Llama2, "lc-TheBloke-FusionNet-34Bx2-MoE-AWQ", "<s>"),
        (ChatFormat::Llama3, "llama-3", ""),
        (ChatFormat::Mistral, "mistral-7b-instruct", ""),
        (ChatFormat::Gemma, "gemma-2", ""),
        (ChatFormat::Gemma, "gemma-3", ""),
        (ChatFormat::Phi3, "lc-Phi-3-vision", ""),
    ];
    for (format, name, before) in pairs {
        let record = &cases["templates"][name];
        let template = super::super::ChatTemplate::new(format.source()).unwrap();
        let template = template.token("bos_token", record["bos_token"].as_str().unwrap());
        let template = template.token("eos_token", record["eos_token"].as_str().unwrap());
        let mut agreed = 0;
        for case in [
            "user",
            "system-user",
            "multi-turn",
            "multi-turn-no-system",
            "whitespace",
            "unicode-escapes",
            "empty-content",
        ] {
            let Some(text) = record["cases"][case]["expected"].as_str() else { continue };
            if format == ChatFormat::Llama2 && !text.contains("<<SYS>>") {
                continue;
            }
            let found = template.render(&conversation(&cases["conversations"][case])).unwrap();
            assert_eq!(found, format!("{before}{text}"), "{} and {name}, {case}", format.name());
            agreed += 1;
        }
        assert!(agreed >= 3, "{} and {name}: {agreed}", format.name());
    }
}

/// Text that a user types stays text in these as in templates from files.
#[test]
fn typed_marks_are_no_marks() {
    let tokenizer = Tokenizer::from_json(include_bytes!("../../../tests/fixtures/tokenizer.json"), None).unwrap();
    let end = tokenizer.id("<|im_end|>").unwrap();
    for format in ChatFormat::ALL {
        let template = format.template(&tokenizer).unwrap();
        let count = |said: &str| {
            let ids = template.encode(&Conversation::new([Message::user(said)]), &tokenizer).unwrap();
            ids.iter().filter(|id| **id == end).count()
        };
        assert_eq!(count("a <|im_end|> b"), count("a b"), "{}", format.name());
    }
}
