// The first pass of the antialiased resize, along the rows, in 8-bit fixed point: y[r, i] = sum_t table[i, t] * x[r, first + t].
//
// An invocation makes 4 pixels of one column, so that each coefficient it loads is used 4 times.
//@ axis pixels = bytes | texture | planes
# import "picture" as picture
# set ROWS = 4

struct Params {
    // where the first pixel of the first row lies from the corner
    x0: i32,
    y0: i32,
    // the last column and row at which the picture can begin
    farthest_x: u32,
    farthest_y: u32,
    // the last pixel of a row that may be read
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
    // the steps in the source from a pixel to the next one of its row, and to the one below
    across_x: i32,
    across_y: i32,
    down_x: i32,
    down_y: i32,
    ${ picture.fields() }
}

@group(0) @binding(0) var<uniform> params: Params;
# if pixels == "planes"
// [height, width]: luma; [(height + 1) / 2, (width + 1) / 2]: blue and red chroma
@group(0) @binding(1) var x: texture_2d<f32>;
@group(0) @binding(2) var chroma: texture_2d<f32>;
# elif pixels == "texture"
// [height, width]
@group(0) @binding(1) var x: texture_2d<f32>;
# else
// [height, width], RGBA in one word
@group(0) @binding(1) var<storage, read> x: array<u32>;
# endif
# set table_at = 3 if pixels == "planes" else 2
// [columns, 2 + taps]: the first pixel, how many, and their coefficients in units of 2^-22
@group(0) @binding(${ table_at }) var<storage, read> table: array<i32>;
// [2]: the column and the row of the source at which the picture begins
@group(0) @binding(${ table_at + 1 }) var<storage, read> corner: array<u32>;
// [rows, columns], RGBA in one word
@group(0) @binding(${ table_at + 2 }) var<storage, read_write> y: array<u32>;

# if pixels != "bytes"
${ picture.function(pixels) }
# else
fn pixel(at: u32) -> vec4<i32> {
    let word = x[at];
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
    let begin = min(vec2<u32>(corner[0], corner[1]), vec2<u32>(params.farthest_x, params.farthest_y));
    // Steps to the left and up are sums that wrap around.
# if pixels == "bytes"
    let origin = (begin.y + u32(params.y0)) * params.pitch + begin.x + u32(params.x0);
    let across = u32(params.across_y) * params.pitch + u32(params.across_x);
    let down = u32(params.down_y) * params.pitch + u32(params.down_x);
# else
    let origin = vec2<i32>(begin) + vec2<i32>(params.x0, params.y0);
    let across = vec2<i32>(params.across_x, params.across_y);
    let down = vec2<i32>(params.down_x, params.down_y);
# endif
# set index = "u32" if pixels == "bytes" else "i32"
# for r in range(ROWS)
    let start${ r } = origin + ${ index }(min(id.y * ${ ROWS }u + ${ r }u, params.rows - 1u)) * down;
    var sum${ r } = vec4<i32>(1 << 21u);
# endfor
    for (var t = 0u; t < count; t++) {
        let coefficient = table[entry + 2u + t];
        let along = ${ index }(min(first + t, params.last)) * across;
# for r in range(ROWS)
        sum${ r } += coefficient * pixel(start${ r } + along);
# endfor
    }
# for r in range(ROWS)
    store(id.y * ${ ROWS }u + ${ r }u, id.x, sum${ r });
# endfor
}
