//! What lies over the scene: the figures, what the eye sees and makes of it, and what the robot says.

use crate::eyes::name;
use crate::frames::{Frames, SHOWN};
use crate::overlay::{Font, Sheet, wrapped};
use glam::Vec2;
use lampyris::Answer;

const DARK: (u32, f32) = (0x0c1119, 0.9);
const BRIGHT: u32 = 0xf4f7fb;
const DIM: u32 = 0x9fb0c3;
const BLUE: u32 = 0x36c5ff;
const RED: u32 = 0xff6b57;
const GREEN: u32 = 0x7bd88f;
const INK: u32 = 0x1d2433;
const MARGIN: f32 = 16.0;
/// Pixels of the panels' widths.
const LEFT: f32 = 320.0;
const RIGHT: f32 = 316.0;
/// Letters of a line in the bubble, and its lines.
const LETTERS: usize = 44;
const LINES: usize = 8;

/// What the HUD is made of.
#[derive(Debug)]
pub struct Shown<'a> {
    pub size: [u32; 2],
    pub adapter: &'a str,
    pub frames: &'a Frames,
    pub budget_ms: f32,
    pub answer: Option<&'a Answer>,
    /// Frames that the answer took.
    pub late: usize,
    /// Rows and columns of the chart, once there is one.
    pub grid: Option<[u32; 2]>,
    /// What it answers, and its words so far.
    pub speech: Option<(&'a str, &'a str)>,
    /// Where its mouth is on the screen.
    pub mouth: Vec2,
    /// A line at the bottom.
    pub note: &'a str,
}

/// Lays the frame's sheet out, and says where the chart goes.
pub fn compose(shown: &Shown<'_>) -> (Sheet, Option<[f32; 4]>) {
    let mut sheet = Sheet::default();
    bubble(&mut sheet, shown);
    figures(&mut sheet, shown);
    let chart = eye(&mut sheet, shown);
    let bottom = shown.size[1] as f32 - MARGIN;
    if !shown.note.is_empty() {
        let wide = Font::Small.advance() * shown.note.chars().count() as f32;
        let left = 0.5 * (shown.size[0] as f32 - wide);
        sheet.panel([left - 12.0, bottom - 26.0, wide + 24.0, 26.0], DARK, 8.0);
        sheet.text([left, bottom - 21.0], Font::Small, BRIGHT, shown.note);
    }
    (sheet, chart)
}

/// The times of the frames, and whose they were.
fn figures(sheet: &mut Sheet, shown: &Shown<'_>) {
    let frames = shown.frames;
    let (left, top) = (MARGIN, MARGIN);
    sheet.panel([left, top, LEFT, 206.0], DARK, 10.0);
    let left = left + 14.0;
    let adapter: String = shown.adapter.chars().take(36).collect();
    sheet.text([left, top + 10.0], Font::Small, DIM, &adapter);
    let late = frames.recent() > frames.period;
    let x = sheet.text(
        [left, top + 32.0],
        Font::Large,
        if late { RED } else { BRIGHT },
        &format!("{:.1} ms", frames.recent()),
    );
    sheet.text([x + 10.0, top + 39.0], Font::Small, DIM, &format!("of {:.1} a frame", frames.period));
    let color = if frames.missed == 0 { GREEN } else { RED };
    let missed = format!("{} of {} frames missed", frames.missed, frames.times.len());
    sheet.text([left, top + 64.0], Font::Small, color, &missed);
    let line = match frames.recent_models() {
        Some([eye, talk]) => format!("models {:.2} ms GPU: eye {eye:.2}, talk {talk:.2}", eye + talk),
        None => "models: no timestamps here".to_owned(),
    };
    sheet.text([left, top + 84.0], Font::Small, BRIGHT, &line);
    sheet.text([left, top + 104.0], Font::Small, DIM, &format!("their budget {:.1} ms a frame", shown.budget_ms));
    curve(sheet, frames, [left, top + 128.0, LEFT - 28.0, 66.0]);
}

/// A bar for each of the last frames, and the line that none should cross.
fn curve(sheet: &mut Sheet, frames: &Frames, [left, top, wide, high]: [f32; 4]) {
    let from = frames.times.len().saturating_sub(SHOWN);
    let (step, most) = (wide / SHOWN as f32, 2.0 * frames.period);
    for (k, time) in frames.times[from..].iter().enumerate() {
        let tall = (high * time / most).clamp(1.0, high);
        let paint = if *time > frames.period { (RED, 1.0) } else { (BLUE, 0.9) };
        sheet.panel([left + step * k as f32, top + high - tall, step - 0.6, tall], paint, 0.0);
    }
    sheet.panel([left, top + 0.5 * high, wide, 1.0], (BRIGHT, 0.7), 0.0);
}

/// What the eye sees, its name, and the names of the chart's rows.
fn eye(sheet: &mut Sheet, shown: &Shown<'_>) -> Option<[f32; 4]> {
    let height = shown.size[1] as f32;
    let side = (0.32 * height).min(220.0);
    let rows = shown.grid.map_or(0, |[rows, _]| rows) as f32;
    let row = if rows > 0.0 { ((height - 2.0 * MARGIN - side - 92.0) / rows).clamp(1.0, 17.0) } else { 0.0 };
    let (left, top) = (shown.size[0] as f32 - MARGIN - RIGHT, MARGIN);
    sheet.panel([left, top, RIGHT, side + 80.0 + rows * row], DARK, 10.0);
    sheet.picture([left + 0.5 * (RIGHT - side), top + 12.0, side, side], 6.0);
    let under = top + side + 20.0;
    let left = left + 14.0;
    let Some(answer) = shown.answer else {
        sheet.text([left, under], Font::Large, DIM, "opening its eye");
        return None;
    };
    let (label, probability) = name(answer);
    let label: String = label.chars().take(14).collect();
    let x = sheet.text([left, under], Font::Large, BLUE, &label);
    sheet.text([x + 10.0, under + 6.0], Font::Small, BRIGHT, &format!("{:.0} %", 100.0 * probability));
    let late = format!("named {} frame{} later", shown.late, if shown.late == 1 { "" } else { "s" });
    sheet.text([left, under + 26.0], Font::Small, DIM, &late);
    let [rows, columns] = shown.grid?;
    let place = [left, under + 50.0, RIGHT - 28.0, row * rows as f32];
    if columns <= 2 && row >= 14.0 {
        let mut classes = answer.top(answer.probabilities.len());
        classes.sort_by_key(|class| class.index);
        for class in &classes {
            let (column, line) = (class.index as u32 / rows, class.index as u32 % rows);
            let x = place[0] + column as f32 * place[2] / columns as f32;
            let y = place[1] + line as f32 * row + 0.5 * (row - Font::Small.height());
            let best = class.label == label;
            let font = if best { Font::SmallBold } else { Font::Small };
            let letters: String = class.label.chars().take(9).collect();
            sheet.text([x, y], font, if best { BRIGHT } else { DIM }, &letters);
        }
    }
    Some(place)
}

/// What the robot says, over its head.
fn bubble(sheet: &mut Sheet, shown: &Shown<'_>) {
    let Some((question, text)) = shown.speech else { return };
    let mut lines = wrapped(text, LETTERS);
    lines.drain(..lines.len().saturating_sub(LINES));
    let asked = wrapped(question, LETTERS);
    let longest = lines.iter().chain(&asked).map(|line| line.chars().count()).max().unwrap_or(0);
    let (step, pad) = (19.0, 14.0);
    let wide = Font::Small.advance() * longest as f32 + 2.0 * pad;
    let gap = if asked.is_empty() || lines.is_empty() { 0.0 } else { 6.0 };
    let high = step * (lines.len() + asked.len()) as f32 + gap + 2.0 * pad - 4.0;
    let right = shown.size[0] as f32 - RIGHT - 2.0 * MARGIN;
    let left = (shown.mouth.x - 0.5 * wide).min(right - wide).max(MARGIN);
    let top = (shown.mouth.y - 18.0 - high).max(MARGIN);
    let tip = shown.mouth.x.clamp(left + 24.0, left + wide - 24.0);
    let paper = (0xfffdf6, 0.96);
    sheet.panel([left + 3.0, top + 4.0, wide, high], (0x000000, 0.22), 14.0);
    sheet.panel([left, top, wide, high], paper, 14.0);
    sheet.tail([tip - 10.0, top + high, 20.0, 16.0], paper);
    let mut y = top + pad - 2.0;
    for line in &asked {
        sheet.text([left + pad, y], Font::Small, 0x7a8698, line);
        y += step;
    }
    y += gap;
    for line in &lines {
        sheet.text([left + pad, y], Font::SmallBold, INK, line);
        y += step;
    }
}
