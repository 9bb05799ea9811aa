//! A story by the model that is part of the library, in a dozen lines: `cargo run --release --example story "Tell me a story."`.

use lampyris::Gpu;
use lampyris::models::TextModel;
use lampyris::models::text::{Conversation, Message};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let request = std::env::args().nth(1).unwrap_or_else(|| "Tell me a story.".to_owned());
    let gpu = pollster::block_on(Gpu::new())?;
    println!("{}", pollster::block_on(run(&gpu, &request, 300))?);
    Ok(())
}

/// The answer to a request, of at most so many tokens.
pub(crate) async fn run(gpu: &Gpu, request: &str, most: usize) -> Result<String, Box<dyn Error>> {
    let model = TextModel::bundled(gpu)?;
    let mut session = model.session(most + 64).await?;
    let mut answer = session.chat(&Conversation::new([Message::user(request)]), most).await?;
    let mut text = String::new();
    while let Some(piece) = answer.next().await? {
        text += &piece;
    }
    Ok(text)
}
