//! What goes to the terminal: answers to stdout whole, notes and progress to stderr.

use crate::failure::Failure;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Write;

/// Writes a whole answer to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// One sentence on stderr.
pub(crate) fn note(text: &str) {
    let text = one_line(text);
    // Nowhere is left to say that stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "lampyris: {text}");
}

/// Text that came from a file or a driver, on one line and without what would steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Text that a model wrote, without what would steer a terminal; lines and tabs stay.
pub(crate) fn printable(text: &str) -> String {
    let keep = |c: char| c == '\n' || c == '\t' || !c.is_control();
    text.chars().map(|c| if keep(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// A value as one line of JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let mut line = serde_json::to_string(value).map_err(|error| Failure::Output(error.into()))?;
    line.push('\n');
    Ok(line)
}

/// A bar of `width` characters, filled by `share` from 0 to 1.
pub(crate) fn bar(share: f32, width: usize) -> String {
    let filled = ((share * width as f32).round() as usize).min(width);
    format!("{}{}", "#".repeat(filled), ".".repeat(width - filled))
}

/// A progress bar on stderr, when that is a terminal and there is enough to do.
pub(crate) fn progress(total: usize, doing: &'static str) -> ProgressBar {
    let target = if total > 1 { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(doing);
    bar
}

/// A bar of the bytes of weights that have arrived on a device, on stderr when that is a terminal. It goes when the last have.
pub(crate) fn arriving() -> impl FnMut(u64, u64) {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("loading {wide_bar} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    move |arrived, total| {
        bar.set_length(total);
        bar.set_position(arrived);
        if arrived >= total {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!((bar(0.0, 4), bar(0.5, 4), bar(1.0, 4)), ("....".into(), "##..".into(), "####".into()));
        assert_eq!(bar(f32::NAN, 2), "..");
    }

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(one_line("a\n  b\u{1b}[2Jc"), "a b\u{fffd}[2Jc");
    }
}
