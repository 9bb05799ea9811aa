//! The game without a window: frames at the pace that was asked for, some of them as pictures, and a table at the end.

use crate::Result;
use crate::args::Args;
use crate::game::Game;
use crate::host::{Host, view};
use lampyris::wgpu;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Draws the frames, and prints the table.
pub fn run(args: &Args) -> Result<()> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let host = Host::open(&instance, None, args.adapter.as_deref())?;
    let mut game = Game::new(host, args, args.size)?;
    let begun = Instant::now();
    game.wait()?;
    if args.pictures > 0 {
        std::fs::create_dir_all(&args.out)?;
    }
    let period = Duration::from_secs_f32(1.0 / args.hz);
    let mut target = game.host.target("game.target", args.size, 1, wgpu::TextureUsages::COPY_SRC);
    let mut files = Vec::new();
    // The first frame compiles what it draws with, which is loading too.
    game.frame(0.0, &view(&target))?;
    game.host.device.poll(wgpu::PollType::wait_indefinitely())?;
    game.look_round()?;
    game.frames.models.clear();
    let loading = begun.elapsed();
    let mut due = Instant::now();
    for frame in 0..args.frames {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if args.destroy_at == Some(frame) {
            game.lose_device()?;
        }
        let begun = Instant::now();
        if game.recover()? {
            target = game.host.target("game.target", args.size, 1, wgpu::TextureUsages::COPY_SRC);
        }
        game.ask();
        game.frame(frame as f32 / args.hz, &view(&target))?;
        // A host may wait where its guests may not: without a screen this is what ends a frame.
        game.host.device.poll(wgpu::PollType::wait_indefinitely())?;
        game.look_round()?;
        let took = begun.elapsed();
        game.frames.push(1000.0 * took.as_secs_f32(), took > period);
        due = begun + period.max(took);
        if pictured(frame, args) {
            let file = args.out.join(format!("frame-{frame:05}.png"));
            save(&game.host, &target, &file)?;
            files.push(file.display().to_string());
            due = Instant::now();
        }
    }
    let mut report = game.report();
    report["pictures"] = json!(files);
    report["loading_ms"] = json!(loading.as_millis() as u64);
    if args.json {
        println!("{report:#}")
    } else {
        print_table(&report)
    }
    Ok(())
}

/// Whether a frame is one of those that become pictures: evenly spread, the last one among them.
fn pictured(frame: usize, args: &Args) -> bool {
    let [before, after] = [frame, frame + 1].map(|count| count * args.pictures / args.frames.max(1));
    after > before
}

/// Reads a target back and writes it as a PNG file.
fn save(host: &Host, target: &wgpu::Texture, file: &Path) -> Result<()> {
    let (width, height) = (target.width(), target.height());
    let row = (4 * width).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
    let staging = host.buffer("game.picture", u64::from(row * height), wgpu::BufferUsages::MAP_READ);
    let mut encoder = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(row), rows_per_image: None };
    let into = wgpu::TexelCopyBufferInfo { buffer: &staging, layout };
    encoder.copy_texture_to_buffer(target.as_image_copy(), into, target.size());
    host.queue.submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |_| ());
    host.device.poll(wgpu::PollType::wait_indefinitely())?;
    let bytes = staging.get_mapped_range(..)?;
    let pixels: Vec<u8> =
        bytes.chunks_exact(row as usize).flat_map(|line| &line[..4 * width as usize]).copied().collect();
    let mut png = png::Encoder::new(BufWriter::new(File::create(file)?), width, height);
    png.set_color(png::ColorType::Rgba);
    png.write_header()?.write_image_data(&pixels)?;
    Ok(())
}

fn print_table(report: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{} frames on {}", report["frames"], text(&report["adapter"]));
    let _ = writeln!(out, "{:>22} {:>9} {:>9} {:>9} {:>9}", "milliseconds", "mean", "median", "p99", "longest");
    for (title, key) in
        [("a frame", "frame_ms"), ("the eye on the GPU", "eye_gpu_ms"), ("the talk on the GPU", "talk_gpu_ms")]
    {
        let cell = |part: &str| report[key][part].as_f64().map_or("-".to_owned(), |value| format!("{value:.2}"));
        let [mean, median, p99, longest] = ["mean", "median", "p99", "longest"].map(cell);
        let _ = writeln!(out, "{title:>22} {mean:>9} {median:>9} {p99:>9} {longest:>9}");
    }
    let _ = writeln!(out, "{} frames took longer than {} ms", report["missed"], report["period_ms"]);
    for drawing in report["drawings"].as_array().into_iter().flatten() {
        let (drawn, named) = (text(&drawing["drawn"]), text(&drawing["named"]));
        let _ = writeln!(out, "{drawn:>22} named {named:<10} right {} of {}", drawing["right"], drawing["answers"]);
    }
    for turn in report["said"].as_array().into_iter().flatten() {
        let frames = turn["frames"].as_u64().map_or("not yet".to_owned(), |frames| format!("{frames} frames"));
        let _ = writeln!(out, "{:>22} {}\n{:>22} {}", frames, text(&turn["question"]), "", text(&turn["answer"]));
    }
    for file in report["pictures"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "{:>22} {}", "picture", text(file));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
