//! Formats of conversations by name, for models that come without a chat template: what their publishers say of them, written as templates.

use super::{ChatTemplate, TextError, Tokenizer};

/// Sets `system` to the first message if that is the system's, and `turns` to the messages after it.
macro_rules! turns {
    () => {
        "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}\
         {% set turns = messages[1:] if messages[0]['role'] == 'system' else messages %}"
    };
}

/// A format of conversations that many models were trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChatFormat {
    /// OpenAI's markup: Qwen, SmolLM2, Yi and many fine-tuned models.
    ChatMl,
    /// Llama 2.
    Llama2,
    /// Llama 3 to 3.3.
    Llama3,
    /// Mistral 7B and Mixtral, as first published.
    Mistral,
    /// Gemma to Gemma 3. The system's message goes before the first of the user's.
    Gemma,
    /// Phi-3 and Phi-3.5.
    Phi3,
    /// Alpaca's headings, which need no tokens of their own, for whatever was tuned on instructions or is only to be tried.
    Alpaca,
}

impl ChatFormat {
    /// Every format.
    pub const ALL: [ChatFormat; 7] = [
        ChatFormat::ChatMl,
        ChatFormat::Llama2,
        ChatFormat::Llama3,
        ChatFormat::Mistral,
        ChatFormat::Gemma,
        ChatFormat::Phi3,
        ChatFormat::Alpaca,
    ];

    /// The name by which it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            ChatFormat::ChatMl => "chatml",
            ChatFormat::Llama2 => "llama2",
            ChatFormat::Llama3 => "llama3",
            ChatFormat::Mistral => "mistral",
            ChatFormat::Gemma => "gemma",
            ChatFormat::Phi3 => "phi3",
            ChatFormat::Alpaca => "alpaca",
        }
    }

    /// The format of a name, if it has one.
    pub fn from_name(name: &str) -> Option<ChatFormat> {
        ChatFormat::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// The special tokens that it writes, the one that ends a turn first. A vocabulary without them spells them out, which a model was hardly
    /// trained on.
    pub fn marks(self) -> &'static [&'static str] {
        match self {
            ChatFormat::ChatMl => &["<|im_end|>", "<|im_start|>"],
            ChatFormat::Llama3 => &["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
            ChatFormat::Gemma => &["<end_of_turn>", "<start_of_turn>"],
            ChatFormat::Phi3 => &["<|end|>", "<|user|>", "<|assistant|>"],
            ChatFormat::Llama2 | ChatFormat::Mistral | ChatFormat::Alpaca => &[],
        }
    }

    /// What begins the next turn where no token ends one, so that an answer has to stop before it.
    pub fn stop(self) -> Option<&'static str> {
        match self {
            ChatFormat::Llama2 | ChatFormat::Mistral => Some("[INST]"),
            ChatFormat::Alpaca => Some("### Instruction:"),
            _ => None,
        }
    }

    /// The template's source.
    pub fn source(self) -> &'static str {
        match self {
            ChatFormat::ChatMl => {
                "{% for message in messages %}\
                 {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\
                 {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
            }
            ChatFormat::Llama2 => concat!(
                turns!(),
                "{% for message in turns %}{% if message['role'] == 'user' %}{{ bos_token }}{{ '[INST] ' }}\
                 {% if loop.first and system %}{{ '<<SYS>>\n' + system + '\n<</SYS>>\n\n' }}{% endif %}\
                 {{ message['content'] + ' [/INST]' }}\
                 {% else %}{{ ' ' + message['content'] + ' ' }}{{ eos_token }}{% endif %}{% endfor %}"
            ),
            ChatFormat::Llama3 => {
                "{{ bos_token }}{% for message in messages %}\
                 {{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}\
                 {% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
            }
            ChatFormat::Mistral => concat!(
                turns!(),
                "{{ bos_token }}{% for message in turns %}{% if message['role'] == 'user' %}{{ '[INST] ' }}\
                 {% if loop.first and system %}{{ system + '\n\n' }}{% endif %}{{ message['content'] + ' [/INST]' }}\
                 {% else %}{{ message['content'] }}{{ eos_token }}{{ ' ' }}{% endif %}{% endfor %}"
            ),
            ChatFormat::Gemma => concat!(
                turns!(),
                "{{ bos_token }}{% for message in turns %}\
                 {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}\
                 {% if loop.first and system %}{{ system + '\n\n' }}{% endif %}{{ message['content'] | trim + '<end_of_turn>\n' }}\
                 {% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
            ),
            ChatFormat::Phi3 => {
                "{% for message in messages %}\
                 {{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}\
                 {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
            }
            ChatFormat::Alpaca => concat!(
                turns!(),
                "{{ bos_token }}{% if system %}{{ system + '\n\n' }}{% endif %}{% for message in turns %}\
                 {% if message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}\
                 {% else %}{{ '### Response:\n' + message['content'] }}{{ eos_token }}{{ '\n\n' }}{% endif %}\
                 {% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
            ),
        }
    }

    /// The template, with the special tokens that `tokenizer` names.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`], which takes all of them.
    pub fn template(self, tokenizer: &Tokenizer) -> Result<ChatTemplate, TextError> {
        ChatTemplate::with(self.source(), tokenizer)
    }
}
