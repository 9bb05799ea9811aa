//! What is in a picture, in ten lines: `cargo run --release --example classify MODEL PICTURE`.
//!
//! `MODEL` is a `.safetensors` file or the folder that it lies in with its `config.json`.

use lampyris::{Classifier, Gpu};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, picture] = &arguments[..] else { return Err("usage: classify MODEL PICTURE".into()) };
    println!("{}", pollster::block_on(run(model, picture))?);
    Ok(())
}

/// The five likeliest classes, a line each.
pub(crate) async fn run(model: &str, picture: &str) -> Result<String, Box<dyn Error>> {
    let gpu = Gpu::new().await?;
    let classifier = Classifier::load(&gpu, model).await?;
    let answer = classifier.classify(&image::open(picture)?).await?;
    let lines = answer.top(5).into_iter().map(|p| format!("{:5.1} %  {}", 100.0 * p.probability, p.label));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
