//! `lampyris embed`: a vector of each text, or how near the texts lie to each other.

use crate::args::{DeviceArguments, Embed, Precision};
use crate::failure::Failure;
use crate::texts::{Kind, kind};
use crate::{device, output};
use lampyris::models::encoder::{Encoder, EncoderFiles, EncoderOptions, cosine};
use serde::Serialize;
use std::io::Read;

/// The most that is read from the input, in bytes.
const MOST_INPUT: u64 = 64 << 20;

/// What a line of `--json` says.
#[derive(Debug, Serialize)]
struct Embedded<'a> {
    text: &'a str,
    embedding: &'a [f32],
}

/// What a line of `--similarity --json` says.
#[derive(Debug, Serialize)]
struct Similar<'a> {
    text: &'a str,
    /// Cosines with all texts, in their order.
    cosines: Vec<f32>,
}

/// Embeds the texts that `job` names and prints their vectors, or their cosines.
pub(crate) fn run(job: &Embed, arguments: &DeviceArguments) -> Result<(), Failure> {
    let texts = texts(&job.texts)?;
    // Of a network that makes vectors, but is of no kind that is known, its reader says what it is.
    if kind(&job.model) == Kind::Language && !job.model.join("modules.json").exists() {
        return Err(Failure::IsLanguage { model: job.model.display().to_string() });
    }
    let gpu = device::open(arguments)?;
    let files = EncoderFiles::open(&job.model)?;
    let options = EncoderOptions::default().half(job.precision == Precision::F16);
    let embeddings = gpu.block_on(async {
        let encoder = Encoder::load_with(&gpu, files, options, output::arriving()).await?;
        match &job.prompt {
            Some(prompt) => encoder.embed_as(prompt, &texts).await,
            None => encoder.embed(&texts).await,
        }
    })?;
    device::say_kind(&gpu);
    if !job.similarity {
        for (text, embedding) in texts.iter().zip(&embeddings) {
            output::print(&match job.json {
                true => output::json(&Embedded { text, embedding })?,
                false => embedding.iter().map(f32::to_string).collect::<Vec<_>>().join(" ") + "\n",
            })?;
        }
        return Ok(());
    }
    let cosines = |one: &Vec<f32>| -> Vec<f32> { embeddings.iter().map(|other| cosine(one, other)).collect() };
    for (at, (text, embedding)) in texts.iter().zip(&embeddings).enumerate() {
        output::print(&match job.json {
            true => output::json(&Similar { text, cosines: cosines(embedding) })?,
            false => line(at, text, &cosines(embedding)),
        })?;
    }
    Ok(())
}

/// A line of the table: the text's number, its cosines, and the text.
fn line(at: usize, text: &str, cosines: &[f32]) -> String {
    let cosines: String = cosines.iter().map(|cosine| format!("{cosine:7.3}")).collect();
    format!("{at:4} {cosines}  {}\n", output::one_line(text))
}

/// The texts of the command line, the lines of the input where `-` stands.
fn texts(named: &[String]) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::with_capacity(named.len());
    for text in named {
        if text != "-" {
            texts.push(text.clone());
            continue;
        }
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(MOST_INPUT + 1).read_to_end(&mut bytes).map_err(Failure::Input)?;
        let fits = bytes.len() as u64 <= MOST_INPUT;
        let input = String::from_utf8(bytes).ok().filter(|_| fits).ok_or(Failure::NoLines { most: MOST_INPUT })?;
        texts.extend(input.lines().map(str::to_owned));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_holds_nothing_that_steers_a_terminal() {
        assert_eq!(line(3, "a\n\u{1b}[2Jb", &[1.0, -0.25]), "   3   1.000 -0.250  a \u{fffd}[2Jb\n");
    }
}
