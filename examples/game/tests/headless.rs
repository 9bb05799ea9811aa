//! The game without a window: it names what is drawn, talks, goes on after its device is destroyed, and writes pictures of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use serde_json::Value;
use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

/// The bars of the chart, and the bright letters of the panel, as they come out of the picture.
const BAR: [u8; 3] = [126, 227, 255];
const LETTERS: [u8; 3] = [244, 247, 251];

/// What the game gives for `options`, one game at a time: what a frame has room for depends on who else computes.
fn game(options: &[&str]) -> Output {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    Command::new(env!("CARGO_BIN_EXE_lampyris-game")).args(options).output().unwrap()
}

/// The pixels of a picture, and its size.
fn pixels(file: &str) -> (Vec<[u8; 3]>, [u32; 2]) {
    let mut reader = png::Decoder::new(BufReader::new(File::open(file).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (pixels.chunks_exact(4).map(|p| [p[0], p[1], p[2]]).collect(), [info.width, info.height])
}

/// How many of `pixels` have nearly this colour.
fn painted(pixels: &[[u8; 3]], colour: [u8; 3]) -> usize {
    pixels.iter().filter(|pixel| pixel.iter().zip(colour).all(|(found, wanted)| found.abs_diff(wanted) < 9)).count()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// What the report says of times is of one piece: the frames that were missed are those that took longer than a period, and the models' shares are
/// there where the adapter has a clock, the talk's within what it was given.
fn check_times(report: &Value) {
    let [frames, missed, period] = ["frames", "missed", "period_ms"].map(|key| number(&report[key]));
    let of = |key: &str| ["mean", "median", "p99", "longest"].map(|part| number(&report[key][part]));
    let [mean, median, p99, longest] = of("frame_ms");
    assert!(0.0 < median && median <= p99 && p99 <= longest && mean <= longest, "{report:#}");
    assert_eq!(missed > 0.0, longest > period, "{report:#}");
    assert!(if median > period { 2.0 * missed >= frames } else { 2.0 * missed <= frames }, "{report:#}");
    assert!(number(&report["loading_ms"]) > 0.0 && !report["adapter"].as_str().unwrap().is_empty(), "{report:#}");
    if report["timestamps"] == false {
        assert!(report["eye_gpu_ms"].is_null() && report["talk_gpu_ms"].is_null(), "{report:#}");
        return;
    }
    let (eye, talk) = (of("eye_gpu_ms"), of("talk_gpu_ms"));
    assert!(eye[1] > 0.0 && talk[0] > 0.0, "{report:#}");
    // A budget is of what steps are expected to take, which one frame among many may exceed where others use the adapter's cores.
    assert!(talk[1] <= number(&report["budget_ms"]), "{report:#}");
}

#[test]
fn the_robot_names_its_drawings_and_tells_a_story_across_a_lost_device() {
    let folder = std::env::temp_dir().join(format!("lampyris-game-{}", std::process::id()));
    // Half of the frames at one drawing, half at the next; a budget that software adapters can tell a story with.
    let frames = ["--headless", "--json", "--frames", "48", "--hz", "20", "--budget-ms", "40", "--size", "640x360"];
    let pictures = ["--pictures", "2", "--destroy-at", "24", "--out", folder.to_str().unwrap()];
    let output = game(&[&frames[..], &pictures[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["frames"], 48);
    assert_eq!(report["devices_lost"], 1);
    check_times(&report);
    let drawings = report["drawings"].as_array().unwrap();
    assert_eq!(drawings.iter().map(|it| it["drawn"].as_str().unwrap()).collect::<Vec<_>>(), ["house", "fish"]);
    for drawing in drawings {
        let [answers, right] = ["answers", "right"].map(|key| drawing[key].as_u64().unwrap());
        assert_eq!(drawing["named"], drawing["drawn"], "{report:#}");
        // The first look of a stay may still show the way there.
        assert!(answers >= 5 && right + 1 >= answers, "{report:#}");
    }
    assert!(report["said"][0]["answer"].as_str().unwrap().split_whitespace().count() >= 5, "{report:#}");
    for file in report["pictures"].as_array().unwrap() {
        let (pixels, size) = pixels(file.as_str().unwrap());
        assert_eq!(size, [640, 360]);
        let colours = pixels.iter().collect::<HashSet<_>>().len();
        assert!(colours > 500, "{colours} colours in {file}");
        // The bars of all classes together are as long as a full one, which has five rows of 68 pixels; of short ones some are less than a pixel.
        let (bars, letters) = (painted(&pixels, BAR), painted(&pixels, LETTERS));
        assert!((150..=400).contains(&bars), "{bars} pixels of bars in {file}");
        assert!(letters > 20, "{letters} bright pixels of letters in {file}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Once round the lighthouse: eight boards, nine frames before each.
#[test]
fn every_drawing_is_named_by_what_it_shows() {
    let frames = ["--headless", "--json", "--frames", "128", "--hz", "10", "--budget-ms", "20", "--size", "320x320"];
    let output = game(&[&frames[..], &["--pictures", "0"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    check_times(&report);
    let drawings = report["drawings"].as_array().unwrap();
    assert_eq!(drawings.len(), 8, "{report:#}");
    for drawing in drawings {
        let [answers, right] = ["answers", "right"].map(|key| drawing[key].as_u64().unwrap());
        assert_eq!(drawing["named"], drawing["drawn"], "{report:#}");
        assert!(answers >= 5 && right + 1 >= answers, "{report:#}");
    }
}

#[test]
fn without_json_it_prints_a_table() {
    let options =
        ["--headless", "--frames", "8", "--hz", "20", "--budget-ms", "20", "--size", "320x320", "--pictures", "0"];
    let output = game(&options);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    let mut lines = table.lines();
    assert!(lines.next().unwrap().starts_with("8 frames on "), "{table}");
    let titles: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["milliseconds", "mean", "median", "p99", "longest"], "{table}");
    for title in ["a frame", "the eye on the GPU", "the talk on the GPU"] {
        let cells: Vec<&str> = lines.next().unwrap().trim().strip_prefix(title).unwrap().split_whitespace().collect();
        let figure = |cell: &&str| cell.parse::<f64>().is_ok() || *cell == "-" && title != "a frame";
        assert!(cells.len() == 4 && cells.iter().all(figure), "{title}: {table}");
    }
    assert!(lines.next().unwrap().ends_with(" frames took longer than 50.0 ms"), "{table}");
    assert!(table.contains("house") && table.contains("Tell me a story"), "{table}");
}

#[test]
fn what_it_does_not_know_it_refuses() {
    let output = game(&["--fullscreen"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--fullscreen"));
}
