// The second pass of the antialiased resize, along the columns, in 8-bit fixed point: y[i, c] = sum_t table[i, t] * x[first + t, c].
//
// An invocation makes 4 neighbouring pixels of one row, so that each coefficient it loads is used 4 times.
# set PIXELS = 4

struct Params {
    // rows of the source, and which row of the picture its first one is
    source_rows: u32,
    first_row: u32,
    // columns of the source and the result, and rows of the result
    columns: u32,
    rows: u32,
    // words of one row of the table
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [source rows, columns], RGBA in one word
@group(0) @binding(1) var<storage, read> x: array<u32>;
// [rows, 2 + taps]: the first row of the picture, how many, and their coefficients in units of 2^-22
@group(0) @binding(2) var<storage, read> table: array<i32>;
// [rows, columns], RGBA in one word
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

fn pixel(at: u32) -> vec4<i32> {
    return vec4<i32>((vec4<u32>(x[at]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
}

// Rounds a sum in units of 2^-22, the half of which it already contains, and stores it as bytes.
fn store(row: u32, column: u32, sum: vec4<i32>) {
    if row < params.rows && column < params.columns {
        let v = vec4<u32>(clamp(sum >> vec4<u32>(22u), vec4<i32>(0), vec4<i32>(255)));
        y[row * params.columns + column] = v.x | (v.y << 8u) | (v.z << 16u) | (v.w << 24u);
    }
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = min(id.y, params.rows - 1u);
    let entry = row * params.stride;
    let first = max(u32(table[entry]), params.first_row) - params.first_row;
    let count = min(u32(table[entry + 1u]), params.stride - 2u);
# for p in range(PIXELS)
    let column${ p } = min(id.x * ${ PIXELS }u + ${ p }u, params.columns - 1u);
    var sum${ p } = vec4<i32>(1 << 21u);
# endfor
    for (var t = 0u; t < count; t++) {
        let coefficient = table[entry + 2u + t];
        let line = min(first + t, params.source_rows - 1u) * params.columns;
# for p in range(PIXELS)
        sum${ p } += coefficient * pixel(line + column${ p });
# endfor
    }
# for p in range(PIXELS)
    store(id.y, id.x * ${ PIXELS }u + ${ p }u, sum${ p });
# endfor
}
