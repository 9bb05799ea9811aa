//! The words after the program's name.

use crate::Result;
use std::path::PathBuf;

/// What `--help` prints.
pub const USAGE: &str = "\
usage: lampyris-game [OPTIONS]

  --headless         no window: draw frames at the pace of --hz, write pictures and a table
  --hz N             frames a second (60)
  --budget-ms X      milliseconds of GPU time a frame for the models (2)
  --size WxH         pixels (1280x720)
  --model FOLDER     a MobileNet for the robot's eye, in place of the bundled classifier of drawings
  --adapter NAME     the adapter whose name contains this
only with --headless:
  --frames N         how many frames (300)
  --pictures N       how many of them to write as PNG files (4)
  --out FOLDER       where to (frames)
  --json             print the table as JSON
  --destroy-at N     destroy the device before frame N, and go on with another
in the window: space asks the robot something, D destroys the device, Escape ends";

/// What a window has no use for.
const HEADLESS: [&str; 5] = ["--frames", "--pictures", "--out", "--json", "--destroy-at"];

/// How the game is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Args {
    pub headless: bool,
    pub frames: usize,
    pub pictures: usize,
    pub out: PathBuf,
    pub json: bool,
    pub destroy_at: Option<usize>,
    pub hz: f32,
    pub budget_ms: f32,
    pub size: [u32; 2],
    pub model: Option<PathBuf>,
    pub adapter: Option<String>,
}

impl Args {
    /// Reads the words; `None` when help is asked for.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Args>> {
        let mut args = Args {
            headless: false,
            frames: 300,
            pictures: 4,
            out: PathBuf::from("frames"),
            json: false,
            destroy_at: None,
            hz: 60.0,
            budget_ms: 2.0,
            size: [1280, 720],
            model: None,
            adapter: None,
        };
        let mut headless_only = None;
        while let Some(word) = words.next() {
            headless_only = headless_only.or(HEADLESS.into_iter().find(|only| *only == word));
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value; see --help"));
            match word.as_str() {
                "--headless" => args.headless = true,
                "--frames" => args.frames = number(&word, &value()?)?,
                "--pictures" => args.pictures = number(&word, &value()?)?,
                "--out" => args.out = value()?.into(),
                "--json" => args.json = true,
                "--destroy-at" => args.destroy_at = Some(number(&word, &value()?)?),
                "--hz" => args.hz = number(&word, &value()?)?,
                "--budget-ms" => args.budget_ms = number(&word, &value()?)?,
                "--size" => {
                    let text = value()?;
                    let (width, height) = text.split_once('x').ok_or("--size is WIDTHxHEIGHT")?;
                    args.size = [number(&word, width)?, number(&word, height)?];
                }
                "--model" => args.model = Some(value()?.into()),
                "--adapter" => args.adapter = Some(value()?),
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("there is no option '{other}'; see --help").into()),
            }
        }
        if let (Some(only), false) = (headless_only, args.headless) {
            return Err(format!("{only} is for --headless: a window plays until it is closed; see --help").into());
        }
        let sensible = (1.0..=1000.0).contains(&args.hz) && (0.0..=1000.0).contains(&args.budget_ms);
        if !sensible || args.size.iter().any(|side| !(320..=4096).contains(side)) {
            return Err("--hz is 1 to 1000, --budget-ms 0 to 1000, and a side of --size 320 to 4096".into());
        }
        Ok(Some(args))
    }
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| format!("{option} wants a number, not '{text}'").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Args>> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_are_read_and_wrong_ones_refused() {
        let args = parse("--headless --frames 12 --size 640x360 --budget-ms 0.5").unwrap().unwrap();
        assert!(args.headless && args.frames == 12 && args.size == [640, 360] && args.budget_ms == 0.5);
        assert_eq!(parse("--json --help").unwrap(), None);
        for wrong in ["--frames", "--headless --frames x", "--size 640", "--hz 0", "--window"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for only in ["--frames 12", "--pictures 1", "--out here", "--json", "--destroy-at 40"] {
            let refused = parse(&format!("--hz 30 {only}")).unwrap_err().to_string();
            assert!(
                refused.starts_with(only.split(' ').next().unwrap()) && refused.contains("--headless"),
                "{refused}"
            );
            assert!(parse(&format!("{only} --headless")).unwrap().unwrap().headless, "{only}");
        }
    }
}
