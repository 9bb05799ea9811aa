//! How the next token is chosen: a caller's wishes, or what a model's files recommend, checked before they reach a device.

use crate::json::Object;
use crate::{Error, Result, json};
use lampyris_engine::kernels::text::DrawSettings;
use lampyris_engine::weights::gguf::{Gguf, MetadataValue, Value};

/// How the next token is chosen. The filters work in Hugging Face's order: penalties, temperature, top-k, top-p, min-p.
///
/// ```
/// use lampyris_models::decoder::Sampling;
/// let sampling = Sampling::at(0.8).top_k(40).top_p(0.95).seed(7);
/// assert!(sampling.check().is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f32,
    /// Only so many of the likeliest tokens, and their equals; 0 for all.
    pub top_k: u32,
    /// Only the likeliest tokens that together reach this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens at least this times as likely as the likeliest; 0 for all.
    pub min_p: f32,
    /// Divides the positive logits and multiplies the negative ones of all tokens that the session has, the prompt's too; 1 for
    /// none.
    pub repetition_penalty: f32,
    /// Taken off the logit of each token that the session has.
    pub presence_penalty: f32,
    /// Taken off the logit of a token for each time that the session has it.
    pub frequency_penalty: f32,
    /// Which of the possible answers. A draw depends on the seed, the token's place in the session and nothing else that is random.
    pub seed: u64,
    /// Whether the log-probability of each token is wanted; see [`Generation::log_probability`](super::Generation::log_probability).
    pub log_probabilities: bool,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling::greedy()
    }
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy() -> Sampling {
        Sampling::at(0.0)
    }

    /// Draws at a temperature, from all tokens, with the seed 0.
    pub fn at(temperature: f32) -> Sampling {
        Sampling {
            temperature,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            log_probabilities: false,
        }
    }

    /// What people are used to from models that recommend nothing: llama.cpp's temperature of 0.8, the 40 likeliest tokens, a top-p
    /// of 0.95 and a min-p of 0.05.
    pub fn usual() -> Sampling {
        Sampling::at(0.8).top_k(40).top_p(0.95).min_p(0.05)
    }

    /// With another temperature.
    #[must_use]
    pub fn temperature(self, temperature: f32) -> Sampling {
        Sampling { temperature, ..self }
    }

    /// Only the `top_k` likeliest tokens.
    #[must_use]
    pub fn top_k(self, top_k: u32) -> Sampling {
        Sampling { top_k, ..self }
    }

    /// Only the likeliest tokens that together reach the probability `top_p`.
    #[must_use]
    pub fn top_p(self, top_p: f32) -> Sampling {
        Sampling { top_p, ..self }
    }

    /// Only tokens at least `min_p` times as likely as the likeliest.
    #[must_use]
    pub fn min_p(self, min_p: f32) -> Sampling {
        Sampling { min_p, ..self }
    }

    /// Makes tokens that the session has less likely, by a factor.
    #[must_use]
    pub fn repetition_penalty(self, repetition_penalty: f32) -> Sampling {
        Sampling { repetition_penalty, ..self }
    }

    /// Makes tokens that the session has less likely, once.
    #[must_use]
    pub fn presence_penalty(self, presence_penalty: f32) -> Sampling {
        Sampling { presence_penalty, ..self }
    }

    /// Makes tokens that the session has less likely, each time.
    #[must_use]
    pub fn frequency_penalty(self, frequency_penalty: f32) -> Sampling {
        Sampling { frequency_penalty, ..self }
    }

    /// Another of the possible answers.
    #[must_use]
    pub fn seed(self, seed: u64) -> Sampling {
        Sampling { seed, ..self }
    }

    /// With the log-probability of each token.
    #[must_use]
    pub fn log_probabilities(self) -> Sampling {
        Sampling { log_probabilities: true, ..self }
    }

    /// Whether the seed matters.
    pub fn is_random(&self) -> bool {
        self.temperature != 0.0
    }

    /// Whether the likeliest token is taken and nothing else is looked at.
    pub(super) fn is_plain(&self) -> bool {
        !self.is_random()
            && !self.log_probabilities
            && self.repetition_penalty == 1.0
            && self.presence_penalty == 0.0
            && self.frequency_penalty == 0.0
    }

    /// Refuses what has no meaning.
    ///
    /// # Errors
    /// [`Error::Sampling`] with the setting, what it is and what it may be.
    pub fn check(&self) -> Result<()> {
        let penalty = "a number from -100 to 100";
        let wrong = [
            // Below, the reciprocal could overflow.
            ("temperature", self.temperature, TEMPERATURE, temperature as fn(f64) -> bool),
            ("top_p", self.top_p, SHARE, share),
            ("min_p", self.min_p, "a number from 0 to 1", |p| (0.0..=1.0).contains(&p)),
            ("repetition_penalty", self.repetition_penalty, FACTOR, factor),
            ("presence_penalty", self.presence_penalty, penalty, |p| p.abs() <= 100.0),
            ("frequency_penalty", self.frequency_penalty, penalty, |p| p.abs() <= 100.0),
        ]
        .into_iter()
        .find(|(_, found, _, allowed)| !allowed(f64::from(*found)));
        match wrong {
            Some((setting, found, expected, _)) => Err(Error::Sampling { setting, found: found.to_string(), expected }),
            None => Ok(()),
        }
    }

    /// As the kernel has them.
    pub(super) fn settings(&self) -> DrawSettings {
        DrawSettings {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed,
        }
    }

    /// What a `generation_config.json` recommends, as transformers understands it: without `do_sample` the likeliest token, with it a
    /// temperature of 1 and the 50 likeliest tokens unless said otherwise. A negative number of likeliest tokens is all of them, as in GGUF files, and 0 of
    /// their probability the likeliest. `None` where it does not speak of the choice at all.
    ///
    /// # Errors
    /// [`Error::Json`] and [`Error::Config`] with the key.
    pub fn of_generation_config(bytes: &[u8]) -> Result<Option<Sampling>> {
        let map = json::parse("generation_config.json", bytes)?;
        let file = Object::top("generation_config.json", &map);
        let number = |key: &str, allowed: fn(f64) -> bool, expected: &'static str| {
            Ok::<_, Error>(file.number(key, allowed, expected)?.map(|number| number as f32))
        };
        let spoken = ["do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"];
        if spoken.iter().all(|key| file.get(key).is_none()) {
            return Ok(None);
        }
        let mut sampling = Sampling::greedy();
        if let Some(factor) = number("repetition_penalty", factor, FACTOR)? {
            sampling.repetition_penalty = factor;
        }
        if file.flag("do_sample")? != Some(true) {
            return Ok(Some(sampling));
        }
        sampling.temperature = number("temperature", temperature, TEMPERATURE)?.unwrap_or(1.0);
        let whole = |k: f64| k.fract() == 0.0 && k <= f64::from(u32::MAX);
        sampling.top_k = number_of_tokens(file.number("top_k", whole, "a whole number below 2^32")?.unwrap_or(50.0));
        sampling.top_p = at_least_one(number("top_p", |p| p == 0.0 || share(p), SHARE)?.unwrap_or(1.0));
        sampling.min_p = number("min_p", |p| (0.0..=1.0).contains(&p), "a number from 0 to 1")?.unwrap_or(0.0);
        Ok(Some(sampling))
    }

    /// What a GGUF file recommends with its keys `general.sampling.*`; `None` where it has none of them. The converter leaves out a
    /// temperature of 1.
    ///
    /// # Errors
    /// [`Error::Config`] for a value that has no meaning.
    pub fn of_gguf(file: &Gguf) -> Result<Option<Sampling>> {
        let number = |key: &str| file.value(&format!("general.sampling.{key}")).and_then(Value::number);
        if ["temp", "top_k", "top_p", "min_p", "penalty_repeat"].iter().all(|key| number(key).is_none()) {
            return Ok(None);
        }
        let mut sampling = Sampling::greedy();
        let real = |key: &str, other: f32| number(key).map_or(other, |found| found as f32);
        sampling.repetition_penalty = real("penalty_repeat", 1.0);
        sampling.temperature = real("temp", 1.0);
        sampling.top_k = number("top_k").map_or(0, number_of_tokens);
        sampling.top_p = at_least_one(real("top_p", 1.0));
        sampling.min_p = real("min_p", 0.0);
        sampling.check().map_err(|error| match error {
            Error::Sampling { setting, found, expected } => {
                let file = format!("{}: general.sampling.*", file.file());
                Error::Config { file, key: setting.to_owned(), found, expected }
            }
            other => other,
        })?;
        Ok(Some(sampling))
    }

    /// The keys of a GGUF file that recommend this; [`Sampling::of_gguf`] reads them. They have no words for the seed, nor for
    /// penalties other than that of repetition.
    pub fn metadata(&self) -> Vec<(String, MetadataValue)> {
        [
            ("temp", MetadataValue::F32(self.temperature)),
            ("top_k", MetadataValue::I32(i32::try_from(self.top_k).unwrap_or(0))),
            ("top_p", MetadataValue::F32(self.top_p)),
            ("min_p", MetadataValue::F32(self.min_p)),
            ("penalty_repeat", MetadataValue::F32(self.repetition_penalty)),
        ]
        .map(|(key, value)| (format!("general.sampling.{key}"), value))
        .to_vec()
    }
}

const TEMPERATURE: &str = "0, or a number from 0.000001 to 1000";
const SHARE: &str = "a number above 0, at most 1";
const FACTOR: &str = "a number from 0.01 to 100";

/// So many of the likeliest tokens; a negative number is many a file's word for all.
fn number_of_tokens(number: f64) -> u32 {
    number.max(0.0) as u32
}

/// A share of the probability that the likeliest token reaches alone, for 0: no vocabulary has a million tokens.
fn at_least_one(share: f32) -> f32 {
    if share == 0.0 { 1e-6 } else { share }
}

fn temperature(number: f64) -> bool {
    // As the 32 bits that it becomes, in which the least is a little less than it is written.
    number == 0.0 || (1e-6..=1000.0).contains(&(number as f32))
}

fn share(number: f64) -> bool {
    number > 0.0 && number <= 1.0
}

fn factor(number: f64) -> bool {
    (0.01..=100.0).contains(&(number as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_meaning_is_refused_by_name() {
        let fine = Sampling::at(0.7).top_k(40).top_p(0.9).min_p(0.05).repetition_penalty(1.1).presence_penalty(-0.5);
        assert!(fine.check().is_ok());
        for wrong in [f32::NAN, -0.1, f32::INFINITY, 1e-9] {
            assert!(matches!(fine.temperature(wrong).check(), Err(Error::Sampling { setting: "temperature", .. })));
        }
        for bound in [0.000001, 1000.0] {
            assert!(fine.temperature(bound).check().is_ok(), "{bound}");
        }
        for bound in [0.01, 100.0] {
            assert!(fine.repetition_penalty(bound).check().is_ok(), "{bound}");
        }
        for wrong in [f32::NAN, 0.0, -0.1, 1.1] {
            assert!(matches!(fine.top_p(wrong).check(), Err(Error::Sampling { setting: "top_p", .. })), "{wrong}");
        }
        for (wrong, named) in [
            (fine.min_p(1.5), "min_p is 1.5"),
            (fine.repetition_penalty(0.0), "repetition_penalty is 0"),
            (fine.presence_penalty(f32::NAN), "presence_penalty is NaN"),
            (fine.frequency_penalty(101.0), "frequency_penalty is 101"),
        ] {
            let said = wrong.check().unwrap_err().to_string();
            assert!(said.contains(named), "{said}");
        }
    }

    #[test]
    fn a_generation_config_is_read_as_transformers_does() {
        let read = |text: &str| Sampling::of_generation_config(text.as_bytes());
        assert_eq!(read(r#"{"eos_token_id": 2}"#).unwrap(), None);
        assert_eq!(read(r#"{"temperature": 0.6, "top_p": 0.9}"#).unwrap(), Some(Sampling::greedy()));
        let said = r#"{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.1, "repetition_penalty": 1.05}"#;
        let expected = Sampling::at(0.6).top_k(20).top_p(0.95).min_p(0.1).repetition_penalty(1.05);
        assert_eq!(read(said).unwrap(), Some(expected));
        assert_eq!(read(r#"{"do_sample": true, "min_p": null}"#).unwrap(), Some(Sampling::at(1.0).top_k(50)));
        for all in ["-1", "0", "-1.0"] {
            let said = format!(r#"{{"do_sample": true, "top_k": {all}}}"#);
            assert_eq!(read(&said).unwrap(), Some(Sampling::at(1.0)), "{all}");
        }
        let likeliest = read(r#"{"do_sample": true, "top_k": 20, "top_p": 0.0}"#).unwrap().unwrap();
        assert!(likeliest.check().is_ok() && likeliest.top_p < 2e-6 && likeliest.top_k == 20);
        for (wrong, key) in [
            (r#"{"do_sample": 1}"#, "do_sample"),
            (r#"{"do_sample": true, "top_p": -0.5}"#, "top_p"),
            (r#"{"do_sample": true, "top_k": 2.5}"#, "top_k"),
            (r#"{"do_sample": true, "top_k": 4294967296}"#, "top_k"),
            (r#"{"repetition_penalty": 0}"#, "`repetition_penalty` is 0"),
            (r#"{"do_sample": true, "temperature": -1}"#, "temperature"),
            (r#"{"repetition_penalty": "much"}"#, "repetition_penalty"),
        ] {
            assert!(read(wrong).unwrap_err().to_string().contains(key), "{wrong}");
        }
    }

    #[test]
    fn a_gguf_file_recommends_by_its_sampling_keys() {
        use lampyris_engine::weights::gguf::gguf_bytes;
        let read = |keys: &[(&str, MetadataValue)]| {
            Sampling::of_gguf(&Gguf::from_bytes("made", gguf_bytes("made", keys, &[]).unwrap()).unwrap())
        };
        assert_eq!(read(&[("general.architecture", MetadataValue::String("llama".into()))]).unwrap(), None);
        let keys = [
            ("general.sampling.top_k", MetadataValue::I32(20)),
            ("general.sampling.top_p", MetadataValue::F32(0.8)),
            ("general.sampling.penalty_repeat", MetadataValue::F32(1.05)),
        ];
        let expected = Sampling::at(1.0).top_k(20).top_p(0.8).repetition_penalty(1.05);
        assert_eq!(read(&keys).unwrap(), Some(expected));
        for said in [Sampling::greedy().repetition_penalty(1.1), Sampling::at(0.6).top_k(20).top_p(0.95).min_p(0.1)] {
            let keys = said.metadata();
            let keys: Vec<(&str, MetadataValue)> = keys.iter().map(|(key, it)| (key.as_str(), it.clone())).collect();
            assert_eq!(read(&keys).unwrap(), Some(said));
        }
        let keys =
            [("general.sampling.temp", MetadataValue::F32(0.7)), ("general.sampling.top_k", MetadataValue::I32(-1))];
        assert_eq!(read(&keys).unwrap(), Some(Sampling::at(0.7)));
        let said = read(&[("general.sampling.temp", MetadataValue::F32(-1.0))]).unwrap_err().to_string();
        assert!(said.starts_with("made: ") && said.contains("`temperature` is -1"), "{said}");
        let likeliest = read(&[("general.sampling.top_p", MetadataValue::F32(0.0))]).unwrap().unwrap();
        assert!(likeliest.check().is_ok() && likeliest.top_p < 2e-6);
    }
}
