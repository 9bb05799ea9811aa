//! The game without a window: it names what is drawn, talks, goes on after its device is destroyed, and writes pictures of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

use serde_json::Value;
use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::process::Command;

/// Colours of a picture, and its size.
fn colours(file: &str) -> (HashSet<[u8; 3]>, [u32; 2]) {
    let mut reader = png::Decoder::new(BufReader::new(File::open(file).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (pixels.chunks_exact(4).map(|p| [p[0], p[1], p[2]]).collect(), [info.width, info.height])
}

#[test]
fn the_robot_names_its_drawings_and_tells_a_story_across_a_lost_device() {
    let folder = std::env::temp_dir().join(format!("lampyris-game-{}", std::process::id()));
    // Half of the frames at one drawing, half at the next; a budget that software adapters can tell a story with.
    let options = ["--headless", "--json", "--frames", "48", "--hz", "20", "--budget-ms", "40", "--size", "640x360"];
    let output = Command::new(env!("CARGO_BIN_EXE_lampyris-game"))
        .args(options)
        .args(["--pictures", "2", "--destroy-at", "24", "--out"])
        .arg(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["frames"], 48);
    assert_eq!(report["devices_lost"], 1);
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
        let (colours, size) = colours(file.as_str().unwrap());
        assert_eq!(size, [640, 360]);
        assert!(colours.len() > 500, "{} colours in {file}", colours.len());
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Once round the lighthouse: eight boards, nine frames before each.
#[test]
fn every_drawing_is_named_by_what_it_shows() {
    let options = ["--headless", "--json", "--frames", "128", "--hz", "10", "--budget-ms", "20", "--size", "320x180"];
    let output =
        Command::new(env!("CARGO_BIN_EXE_lampyris-game")).args(options).args(["--pictures", "0"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let drawings = report["drawings"].as_array().unwrap();
    assert_eq!(drawings.len(), 8, "{report:#}");
    for drawing in drawings {
        let [answers, right] = ["answers", "right"].map(|key| drawing[key].as_u64().unwrap());
        assert_eq!(drawing["named"], drawing["drawn"], "{report:#}");
        assert!(answers >= 5 && right + 1 >= answers, "{report:#}");
    }
}

#[test]
fn what_it_does_not_know_it_refuses() {
    let output = Command::new(env!("CARGO_BIN_EXE_lampyris-game")).arg("--fullscreen").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--fullscreen"));
}
