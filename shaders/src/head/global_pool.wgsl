// Mean or maximum over all pixels of an image, channel by channel.
//
// portable: a workgroup owns 32 channels of an image; 32 invocations share the pixels of four channels and meet in
// workgroup memory.
// sweep: an invocation owns four channels and walks over all pixels, without a barrier.
//@ axis path = portable(CW=8, SLICES=32) | sweep(CW=8, SLICES=1)
//@ axis op = mean | max
//@ axis storage = f32 | f16
# import "storage" as storage_of
# set start = "-3.0e38" if op == "max" else "0.0"

struct Params {
    // channels in fours
    c4: u32,
    // pixels of one image
    pixels: u32,
    // what a sum is multiplied by
    weight: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [images, pixels, c]
@group(0) @binding(1) var<storage, read> x: ${ storage_of.rows(storage) };
// [images, c]
@group(0) @binding(2) var<storage, read_write> y: ${ storage_of.rows(storage) };

${ storage_of.reader("x", storage) }

${ storage_of.writer("y", storage) }

fn join(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
# if op == "max"
    return max(a, b);
# else
    return a + b;
# endif
}

# if SLICES > 1
var<workgroup> partial: array<vec4<f32>, ${ CW * SLICES }>;

# endif
@compute @workgroup_size(${ CW }, ${ SLICES })
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
# if SLICES > 1
    @builtin(local_invocation_index) lane: u32,
# endif
) {
    let column = group.x * ${ CW }u + local.x;
    let image = group.y;
    let first = image * params.pixels * params.c4 + min(column, params.c4 - 1u);
    var result = vec4<f32>(${ start });
    for (var p = local.y; p < params.pixels; p += ${ SLICES }u) {
        result = join(result, load_x(first + p * params.c4));
    }
# if SLICES > 1
    partial[lane] = result;
    workgroupBarrier();
    if local.y == 0u {
        for (var slice = 1u; slice < ${ SLICES }u; slice++) {
            result = join(result, partial[slice * ${ CW }u + local.x]);
        }
    }
# endif
    if local.y == 0u && column < params.c4 {
# if op == "mean"
        result *= params.weight;
# endif
        store_y(image * params.c4 + column, result);
    }
}
