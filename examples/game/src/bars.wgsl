// Draws a bar for each class straight from the classifier's probabilities, which never leave the device.

struct Chart {
    // Left, top, width and height in pixels.
    place: vec4<f32>,
    screen: vec2<f32>,
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> chart: Chart;
@group(0) @binding(1) var<storage, read> probabilities: array<f32>;

struct Point {
    @builtin(position) position: vec4<f32>,
    @location(0) at: vec2<f32>,
}

@vertex
fn corner(@builtin(vertex_index) index: u32) -> Point {
    let at = vec2<f32>(f32(index & 1u), f32(index >> 1u));
    let clip = vec2<f32>(2.0, -2.0) * (chart.place.xy + at * chart.place.zw) / chart.screen + vec2<f32>(-1.0, 1.0);
    return Point(vec4<f32>(clip, 0.0, 1.0), at);
}

@fragment
fn painted(in: Point) -> @location(0) vec4<f32> {
    let cell = in.at * vec2<f32>(f32(chart.columns), f32(chart.rows));
    let which = min(u32(cell.x), chart.columns - 1u) * chart.rows + min(u32(cell.y), chart.rows - 1u);
    if which >= arrayLength(&probabilities) {
        return vec4<f32>(0.0);
    }
    // The right half of a cell is for the bar, the left one for the name; many classes have no names and take it all.
    let begin = select(0.0, 0.5, chart.columns <= 2u);
    let along = (fract(cell.x) - begin) / (0.97 - begin);
    let pixels = chart.place.w / f32(chart.rows);
    let within = abs(fract(cell.y) - 0.5) * pixels <= max(0.32 * pixels, 0.5);
    if along < 0.0 || along > 1.0 || !within {
        return vec4<f32>(0.0);
    }
    let filled = along <= probabilities[which];
    return select(vec4<f32>(1.0, 1.0, 1.0, 0.04), vec4<f32>(0.21, 0.77, 1.0, 1.0), filled);
}
