// Depthwise convolution as the loader of a pointwise one: y = act(window(x) + bias) * w + bias + residual. The tensor between
// the two is never stored; each of its values is computed again for every 4*SG (portable: 32) output channels.
//
// portable: a workgroup owns 32 pixels x 32 channels; its invocations convolve 32 channels of those pixels into workgroup
// memory, then multiply them.
// subgroupN: a subgroup owns 4*SG pixels x 4*SG channels; a lane convolves 4 channels of 4 neighbouring pixels, which are
// then broadcast from its registers.
//@ axis path = portable | subgroup4(SG=4) | subgroup8(SG=8)
//@ axis shape = k3s1(K=3, S=1) | k3s2(K=3, S=2) | k5s1(K=5, S=1) | k5s2(K=5, S=2)
//@ axis storage = f32 | f16 | i8
# import "storage" as storage_of
# import "matrix" as matrix
# import "activation" as activation
# set values = "f16" if storage == "f16" else "f32"
# set quantized = storage == "i8"
# set subgroups = path != "portable"
# set lanes = SG if subgroups else 8

struct Params {
    // the input image
    h: u32,
    w: u32,
    // channels in, and channels out, in fours
    c4: u32,
    n4: u32,
    // the output image
    ho: u32,
    wo: u32,
    // the padding before the image
    top: u32,
    left: u32,
    // extent of the square window
    kernel: u32,
    // whether the residual is added
    residual: u32,
${ activation.fields() }
    // the first workgroup in x and in y, where a launch is of some of them
    first_group: u32,
    first_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [images, h, w, c]
@group(0) @binding(1) var<storage, read> x: ${ storage_of.rows(values) };
// [kernel * kernel, c]
@group(0) @binding(2) var<storage, read> taps: ${ storage_of.rows("i8" if quantized else "f32") };
// [1 or 2, c]: the bias, then the scale of each channel of byte weights
@group(0) @binding(3) var<storage, read> taps_affine: array<vec4<f32>>;
// [c, n]
@group(0) @binding(4) var<storage, read> w: ${ matrix.columns(storage) };
// [1 or 2, n]: the bias, then the scale of each channel of byte weights
@group(0) @binding(5) var<storage, read> affine: array<vec4<f32>>;
// [images, ho, wo, n]; bound to x when there is none
@group(0) @binding(6) var<storage, read> residual: ${ storage_of.rows(values) };
// [images, ho, wo, n]
@group(0) @binding(7) var<storage, read_write> y: ${ storage_of.rows(values) };

${ storage_of.reader("x", values) }

${ storage_of.reader("taps", "i8" if quantized else "f32") }

${ matrix.reader("w", storage) }

${ storage_of.reader("residual", values) }

${ storage_of.writer("y", values) }

${ activation.function() }

# set pixels = 4 * lanes if subgroups else 4
# if subgroups
@compute @workgroup_size(${ SG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let column = (params.first_group + group.x) * ${ SG }u + lane;
# else
// 32 pixels of 8 quads of channels between the two convolutions.
var<workgroup> tile: array<vec4<f32>, 256>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.y;
    let column = (params.first_group + group.x) * 8u + local.x;
# endif
    let c4 = params.c4;
    let n4 = params.n4;
    let image = group.z;
    // A strip is 4 neighbouring pixels of an output row. Addresses are clamped and only the stores are guarded.
    let n = min(column, n4 - 1u);
    let segments = (params.wo + 3u) / 4u;
    let strips = params.ho * segments;
    let first = (params.first_row + group.y) * ${ lanes }u;
    let strip = min(first + lane, strips - 1u);
    let y0 = i32(strip / segments * ${ S }u) - i32(params.top);
    let x0 = i32(strip % segments * ${ 4 * S }u) - i32(params.left);
    let bottom = i32(params.h) - 1;
    let right = i32(params.w) - 1;
# for i in range(3 * S + K)
    let x_of${ i } = u32(clamp(x0 + ${ i }, 0, right)) * c4;
    let within${ i } = x0 + ${ i } >= 0 && x0 + ${ i } <= right;
# endfor
# for p in range(pixels)
    var sum${ p } = vec4<f32>();
# endfor
# if subgroups
    for (var k = 0u; k < c4; k++) {
# else
    for (var chunk = 0u; chunk < c4; chunk += 8u) {
        let k = min(chunk + local.x, c4 - 1u);
# endif
# for t in range(4)
        var between${ t } = vec4<f32>();
# endfor
        for (var ky = 0u; ky < params.kernel; ky++) {
            let iy = y0 + i32(ky);
            let inside = iy >= 0 && iy <= bottom;
            let row = (image * params.h + u32(clamp(iy, 0, bottom))) * params.w * c4 + k;
# for i in range(3 * S + K)
            let v${ i } = select(vec4<f32>(), load_x(row + x_of${ i }), inside && within${ i });
# endfor
# for kx in range(K)
            let tap${ kx } = load_taps((ky * ${ K }u + ${ kx }u) * c4 + k);
# for t in range(4)
            between${ t } += v${ t * S + kx } * tap${ kx };
# endfor
# endfor
        }
        let taps_bias = taps_affine[k];
# if quantized
        let taps_factor = taps_affine[c4 + k];
# endif
# for t in range(4)
        let a${ t } = activate(between${ t }${ " * taps_factor" if quantized else "" } + taps_bias);
# endfor
# if subgroups
        let weights = load_w(k, n4, n);
# for i in range(4)
# for p in range(pixels)
        sum${ p } += subgroupBroadcast(a${ p % 4 }.${ "xyzw"[i] }, ${ p // 4 }u) * weights[${ i }];
# endfor
# endfor
    }
# else
# for t in range(4)
        tile[(local.y * 4u + ${ t }u) * 8u + local.x] = a${ t };
# endfor
        workgroupBarrier();
        for (var i = 0u; i < min(8u, c4 - chunk); i++) {
            let weights = load_w(chunk + i, n4, n);
# for t in range(4)
            sum${ t } += weights * tile[(local.y * 4u + ${ t }u) * 8u + i];
# endfor
        }
        workgroupBarrier();
    }
# endif
    let bias = affine[n];
# if quantized
    let factor = affine[n4 + n] * ${ matrix.unit(storage) };
# endif
# for p in range(pixels)
# if p % 4 == 0
# if subgroups
    let strip${ p // 4 } = first + ${ p // 4 }u;
# else
    let strip0 = first + lane;
# endif
    let oy${ p // 4 } = strip${ p // 4 } / segments;
    let ox${ p // 4 } = strip${ p // 4 } % segments * 4u;
# endif
    if column < n4 && strip${ p // 4 } < strips && ox${ p // 4 } + ${ p % 4 }u < params.wo {
        let at = ((image * params.ho + oy${ p // 4 }) * params.wo + ox${ p // 4 } + ${ p % 4 }u) * n4 + n;
        var v = sum${ p }${ " * factor" if quantized else "" } + bias;
        if params.residual != 0u {
            v += load_residual(at);
        }
        store_y(at, v);
    }
# endfor
}
