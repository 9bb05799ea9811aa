// Both passes of the antialiased resize at once, in 8-bit fixed point, from a texture: along the rows, to bytes, and along the columns.
//
// An invocation makes 4 pixels of one column, one below the other. It goes through the source's rows that any of them needs, weighs each
// along the row once, rounds it to a byte as a first pass would have stored it, and adds it to those that it counts in.
//@ axis pixels = texture | planes
# import "picture" as picture
# set PIXELS = 4

struct Params {
    // where the first pixel of the first row lies from the corner
    x0: i32,
    y0: i32,
    // the last column and row at which the picture can begin
    farthest_x: u32,
    farthest_y: u32,
    // the last pixel of a row that may be read, and the last row
    last: u32,
    last_row: u32,
    // columns and rows of the result
    columns: u32,
    rows: u32,
    // words of one row of the table of columns, and of that of rows
    stride: u32,
    row_stride: u32,
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
# else
// [height, width]
@group(0) @binding(1) var x: texture_2d<f32>;
# endif
# set table_at = 3 if pixels == "planes" else 2
// [columns, 2 + taps]: the first pixel, how many, and their coefficients in units of 2^-22
@group(0) @binding(${ table_at }) var<storage, read> table: array<i32>;
// [rows, 2 + taps]: the first row, how many, and their coefficients in units of 2^-22
@group(0) @binding(${ table_at + 1 }) var<storage, read> table_of_rows: array<i32>;
// [2]: the column and the row of the source at which the picture begins
@group(0) @binding(${ table_at + 2 }) var<storage, read> corner: array<u32>;
// [rows, columns], RGBA in one word
@group(0) @binding(${ table_at + 3 }) var<storage, read_write> y: array<u32>;

${ picture.function(pixels) }

// A sum in units of 2^-22, the half of which it already contains, as bytes.
fn rounded(sum: vec4<i32>) -> vec4<i32> {
    return clamp(sum >> vec4<u32>(22u), vec4<i32>(0), vec4<i32>(255));
}

fn store(row: u32, column: u32, sum: vec4<i32>) {
    if row < params.rows && column < params.columns {
        let v = vec4<u32>(rounded(sum));
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
    let origin = vec2<i32>(begin) + vec2<i32>(params.x0, params.y0);
    let across = vec2<i32>(params.across_x, params.across_y);
    let down = vec2<i32>(params.down_x, params.down_y);
    let row_taps = params.row_stride - 2u;
# for p in range(PIXELS)
    let entry${ p } = min(id.y * ${ PIXELS }u + ${ p }u, params.rows - 1u) * params.row_stride;
    let first${ p } = u32(table_of_rows[entry${ p }]);
    let count${ p } = min(u32(table_of_rows[entry${ p } + 1u]), row_taps);
    var sum${ p } = vec4<i32>(1 << 21u);
# endfor
    // The rows that any of the pixels needs. An entry without any may begin anywhere.
    var from_row = 0xffffffffu;
    var to_row = 0u;
# for p in range(PIXELS)
    if count${ p } > 0u {
        from_row = min(from_row, first${ p });
        to_row = max(to_row, first${ p } + count${ p });
    }
# endfor
    to_row = min(to_row, params.last_row + 1u);
    for (var row = from_row; row < to_row; row++) {
        let start = origin + i32(row) * down;
        var along = vec4<i32>(1 << 21u);
        for (var t = 0u; t < count; t++) {
            along += table[entry + 2u + t] * pixel(start + i32(min(first + t, params.last)) * across);
        }
        let between = rounded(along);
# for p in range(PIXELS)
        // Rows before the first are so far beyond the last that they do not count either.
        let tap${ p } = row - first${ p };
        let weight${ p } = table_of_rows[entry${ p } + 2u + min(tap${ p }, row_taps - 1u)];
        sum${ p } += select(0, weight${ p }, tap${ p } < count${ p }) * between;
# endfor
    }
# for p in range(PIXELS)
    store(id.y * ${ PIXELS }u + ${ p }u, id.x, sum${ p });
# endfor
}
