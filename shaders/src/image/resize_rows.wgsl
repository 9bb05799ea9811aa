// The first pass of the antialiased resize, along the rows, in 8-bit fixed point: y[r, i] = sum_t table[i, t] * x[r, first + t].
//
// An invocation makes 4 pixels of one column, so that each coefficient it loads is used 4 times.
//@ axis pixels = bytes | texture
# set ROWS = 4

struct Params {
    // the first pixel and row that are read
    x0: u32,
    y0: u32,
    // the last pixel of a row that may be read, counted from x0
    last: u32,
    // pixels from one row of the source to the next
    pitch: u32,
    // columns and rows of the result
    columns: u32,
    rows: u32,
    // words of one row of the table
    stride: u32,
    // whether reading the texture decodes the sRGB curve
    srgb: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
# if pixels == "texture"
// [height, width]
@group(0) @binding(1) var x: texture_2d<f32>;
# else
// [height, width], RGBA in one word
@group(0) @binding(1) var<storage, read> x: array<u32>;
# endif
// [columns, 2 + taps]: the first pixel, how many, and their coefficients in units of 2^-22
@group(0) @binding(2) var<storage, read> table: array<i32>;
// [rows, columns], RGBA in one word
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

# if pixels == "texture"
// What the bytes in memory were before the texture decoded them (IEC 61966-2-1).
fn encode(linear: vec4<f32>) -> vec4<f32> {
    let low = 12.92 * linear;
    let high = 1.055 * pow(max(linear, vec4<f32>(0.0031308)), vec4<f32>(1.0 / 2.4)) - 0.055;
    let curve = select(high, low, linear <= vec4<f32>(0.0031308));
    return vec4<f32>(curve.rgb, linear.a);
}

fn pixel(column: u32, row: u32) -> vec4<i32> {
    // A view may be smaller than its texture said: the last texel stands for those beyond it.
    let at = min(vec2<u32>(column, row), textureDimensions(x) - vec2<u32>(1u));
    var v = clamp(textureLoad(x, at, 0), vec4<f32>(0.0), vec4<f32>(1.0));
    if params.srgb != 0u {
        v = encode(v);
    }
    return vec4<i32>(v * 255.0 + 0.5);
}
# else
fn pixel(column: u32, row: u32) -> vec4<i32> {
    let word = x[row * params.pitch + column];
    return vec4<i32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
}
# endif

// Rounds a sum in units of 2^-22, the half of which it already contains, and stores it as bytes.
fn store(row: u32, column: u32, sum: vec4<i32>) {
    if row < params.rows && column < params.columns {
        let v = vec4<u32>(clamp(sum >> vec4<u32>(22u), vec4<i32>(0), vec4<i32>(255)));
        y[row * params.columns + column] = v.x | (v.y << 8u) | (v.z << 16u) | (v.w << 24u);
    }
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = min(id.x, params.columns - 1u);
    let entry = column * params.stride;
    let first = u32(table[entry]);
    let count = min(u32(table[entry + 1u]), params.stride - 2u);
# for r in range(ROWS)
    let row${ r } = params.y0 + min(id.y * ${ ROWS }u + ${ r }u, params.rows - 1u);
    var sum${ r } = vec4<i32>(1 << 21u);
# endfor
    for (var t = 0u; t < count; t++) {
        let coefficient = table[entry + 2u + t];
        let at = params.x0 + min(first + t, params.last);
# for r in range(ROWS)
        sum${ r } += coefficient * pixel(at, row${ r });
# endfor
    }
# for r in range(ROWS)
    store(id.y * ${ ROWS }u + ${ r }u, id.x, sum${ r });
# endfor
}
