// Squeeze-excite gate of an image: mean over the pixels, two small fully connected layers, one activation after each.
//
// A workgroup owns an image; all that lies between input and gate stays in workgroup memory.
// portable: every step spreads its columns over the invocations and, where there are fewer columns than invocations, splits the
// sums too and adds the parts up in workgroup memory.
// sweep: eight invocations own every eighth group of four columns, with a barrier between steps only.
//@ axis path = portable(WG=256) | sweep(WG=8)
//@ axis input = f32 | f16
//@ axis storage = f32 | f16 | i8
//@ skip input=f16, storage=f32
//@ skip input=f16, storage=i8
# import "storage" as storage_of
# import "matrix" as matrix
# import "activation" as activation
# set values = "f16" if storage == "f16" else "f32"
# set split = path == "portable"

struct Params {
    // rows of the input an image, and what their sum is multiplied by
    rows: u32,
    weight: f32,
    // channels, and hidden values, in fours
    c4: u32,
    r4: u32,
    // invocations side by side over the columns of c and of r: powers of two, at most all
    wide_c: u32,
    wide_r: u32,
    // whether the bias rows are followed by a row of weight scales
    scales: u32,
${ activation.fields("inner") }
${ activation.fields("outer") }
}

@group(0) @binding(0) var<uniform> params: Params;
// [images, rows, c]
@group(0) @binding(1) var<storage, read> x: ${ storage_of.rows(input) };
// [c, r]
@group(0) @binding(2) var<storage, read> squeeze: ${ matrix.columns(storage) };
// [1 or 2, r]: the bias, then the scale of each column
@group(0) @binding(3) var<storage, read> squeeze_affine: array<vec4<f32>>;
// [r, c]
@group(0) @binding(4) var<storage, read> excite: ${ matrix.columns(storage) };
// [1 or 2, c]
@group(0) @binding(5) var<storage, read> excite_affine: array<vec4<f32>>;
// [images, c]
@group(0) @binding(6) var<storage, read_write> y: ${ storage_of.rows(values) };

${ storage_of.reader("x", input) }

${ storage_of.writer("y", values) }

${ matrix.reader("squeeze", storage) }

${ matrix.reader("excite", storage) }

${ activation.function("activate_inner", "inner") }

${ activation.function("activate_outer", "outer") }

var<workgroup> mean: array<vec4<f32>, 512>;
var<workgroup> hidden: array<vec4<f32>, 128>;
# if split
var<workgroup> partial: array<vec4<f32>, ${ WG }>;

// The sum of the parts that `wide` neighbouring columns have in all slices; right in the first `wide` invocations.
fn gather(lane: u32, wide: u32, part: vec4<f32>) -> vec4<f32> {
    partial[lane] = part;
    workgroupBarrier();
    var sum = part;
    if lane < wide {
        for (var at = lane + wide; at < ${ WG }u; at += wide) {
            sum += partial[at];
        }
    }
    workgroupBarrier();
    return sum;
}
# endif

// The part of the sum over the pixels that starts at row `first` and takes every `step`-th.
fn sum_rows(image: u32, column: u32, first: u32, step: u32) -> vec4<f32> {
    let start = image * params.rows * params.c4 + column;
    var sum = vec4<f32>();
    for (var row = first; row < params.rows; row += step) {
        sum += load_x(start + row * params.c4);
    }
    return sum;
}

# for (matrix_name, from, depth, columns) in [("squeeze", "mean", "c4", "r4"), ("excite", "hidden", "r4", "c4")]
fn product_${ matrix_name }(column: u32, first: u32, step: u32) -> vec4<f32> {
    var sum = vec4<f32>();
    for (var k = first; k < params.${ depth }; k += step) {
        sum += load_${ matrix_name }(k, params.${ columns }, column) * ${ from }[k];
    }
    return sum;
}

// Scale and bias.
fn affine_${ matrix_name }(column: u32, sum: vec4<f32>) -> vec4<f32> {
    var factor = vec4<f32>(${ matrix.unit(storage) });
    if params.scales != 0u {
        factor *= ${ matrix_name }_affine[params.${ columns } + column];
    }
    return sum * factor + ${ matrix_name }_affine[column];
}

# endfor
# macro stage(columns, wide, part, result)
# if split
    for (var base = 0u; base < ${ columns }; base += params.${ wide }) {
        let column = base + lane % params.${ wide };
        let part = ${ part }, lane / params.${ wide }, ${ WG }u / params.${ wide });
        let sum = gather(lane, params.${ wide }, part);
        if lane < params.${ wide } && column < ${ columns } {
            ${ result };
        }
    }
# else
    for (var column = lane; column < ${ columns }; column += ${ WG }u) {
        let sum = ${ part }, 0u, 1u);
        ${ result };
    }
# endif
# endmacro
@compute @workgroup_size(${ WG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.x;
    let image = group.x;
    let c4 = params.c4;
    let r4 = params.r4;
    // Addresses are clamped: with split sums an invocation may stand beyond the last column.
${ stage("c4", "wide_c", "sum_rows(image, min(column, c4 - 1u)", "mean[column] = sum * params.weight") }
    workgroupBarrier();
${ stage("r4", "wide_r", "product_squeeze(min(column, r4 - 1u)",
         "hidden[column] = activate_inner(affine_squeeze(column, sum))") }
    workgroupBarrier();
${ stage("c4", "wide_c", "product_excite(min(column, c4 - 1u)",
         "store_y(image * c4 + column, activate_outer(affine_excite(column, sum)))") }
}
