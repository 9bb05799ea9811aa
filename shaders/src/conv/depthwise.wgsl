// Depthwise convolution: every channel with its own k x k window, y = act(window(x) + bias), and if asked the sums of
// each two output rows, from which squeeze-excite takes its mean.
//
// portable: an invocation owns 4 neighbouring pixels x 4 channels; when it also sums, a workgroup owns two output rows.
// sweep: an invocation owns OY whole output rows x 4 channels and walks along them; it holds all weights and the sums of
// the outputs that the current columns reach, so that each input is loaded once.
//@ axis path = portable | sweep(OY=2)
//@ axis shape = k3s1(K=3, S=1) | k3s2(K=3, S=2) | k5s1(K=5, S=1) | k5s2(K=5, S=2) | any
//@ axis storage = f32 | f16 | i8
//@ axis pool = plain | pooled
//@ skip path=sweep, shape=any
# import "storage" as storage_of
# import "activation" as activation
# set values = "f16" if storage == "f16" else "f32"
# set pooled = pool == "pooled"

struct Params {
    // the input image
    h: u32,
    w: u32,
    // channels, in fours
    c4: u32,
    // the output image
    ho: u32,
    wo: u32,
    // the padding before the image
    top: u32,
    left: u32,
    // extent of the square window and its step
    kernel: u32,
    stride: u32,
${ activation.fields() }
    // the first workgroup in x and in y, where a launch is of some of them
    first_group: u32,
    first_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [images, h, w, c]
@group(0) @binding(1) var<storage, read> x: ${ storage_of.rows(values) };
// [kernel * kernel, c]
@group(0) @binding(2) var<storage, read> w: ${ storage_of.rows("i8" if storage == "i8" else "f32") };
// [1 or 2, c]: the bias, then the scale of each channel of byte weights
@group(0) @binding(3) var<storage, read> affine: array<vec4<f32>>;
// [images, ho, wo, c]
@group(0) @binding(4) var<storage, read_write> y: ${ storage_of.rows(values) };
# if pooled
// [images, ceil(ho / 2), 1, c]
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;
# endif

${ storage_of.reader("x", values) }

${ storage_of.writer("y", values) }

${ activation.function() }

${ storage_of.reader("w", "i8" if storage == "i8" else "f32") }

# set scaled = " * factor" if storage == "i8" else ""
# if path == "sweep"
# set rows = S * (OY - 1) + K
# set ages = (K - 1) // S
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let channel = (params.first_group + group.x) * 8u + lane;
    let group_y = params.first_row + group.y;
    let oy = group_y * ${ OY }u;
    let image = group.z;
# else
# if pooled
// The sums of the invocations of a workgroup.
var<workgroup> sums: array<vec4<f32>, 64>;

# endif
@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let channel = (params.first_group + group.x) * 8u + local.x;
    let group_y = params.first_row + group.y;
    let image = group.z;
# endif
    let c4 = params.c4;
    // Addresses are clamped and only the stores are guarded.
    let c = min(channel, c4 - 1u);
    let h = i32(params.h);
    let w_last = i32(params.w) - 1;
    let bias = affine[c];
# if storage == "i8"
    let factor = affine[c4 + c];
# endif
# if pooled
    var pooled = vec4<f32>();
# endif
# if path == "sweep"
# for r in range(rows)
    let y${ r } = i32(oy * ${ S }u + ${ r }u) - i32(params.top);
    let inside${ r } = y${ r } >= 0 && y${ r } < h;
    let row${ r } = (image * params.h + u32(clamp(y${ r }, 0, h - 1))) * params.w * c4 + c;
# endfor
# for i in range(K * K)
    let w${ i } = load_w(${ i }u * c4 + c);
# endfor
    // sumR_J: the output of row R that J more steps will complete, less what it still misses.
# for r in range(OY)
# for j in range(ages)
    var sum${ r }_${ j } = vec4<f32>();
# endfor
# endfor
    for (var step = 0u; step < params.wo + ${ ages }u; step++) {
# for s in range(S)
        let x${ s } = i32(step * ${ S }u + ${ s }u) - i32(params.left);
        let column${ s } = u32(clamp(x${ s }, 0, w_last)) * c4;
        let within${ s } = x${ s } >= 0 && x${ s } <= w_last;
# for r in range(rows)
        let v${ s }_${ r } = select(vec4<f32>(), load_x(row${ r } + column${ s }), inside${ r } && within${ s });
# endfor
# endfor
# for r in range(OY)
# for j in range(ages + 1)
# if j < ages
        var next${ r }_${ j } = sum${ r }_${ j };
# else
        var next${ r }_${ j } = vec4<f32>();
# endif
# for s in range(S)
# set kx = s + S * (ages - j)
# if kx < K
# for ky in range(K)
        next${ r }_${ j } += v${ s }_${ r * S + ky } * w${ ky * K + kx };
# endfor
# endif
# endfor
# endfor
# endfor
# for r in range(OY)
        if step >= ${ ages }u && oy + ${ r }u < params.ho && channel < c4 {
            let v = activate(next${ r }_0${ scaled } + bias);
# if pooled
            pooled += v;
# endif
            store_y(((image * params.ho + oy + ${ r }u) * params.wo + step - ${ ages }u) * c4 + c, v);
        }
# for j in range(ages)
        sum${ r }_${ j } = next${ r }_${ j + 1 };
# endfor
# endfor
    }
# if pooled
    if channel < c4 {
        partials[(image * ((params.ho + 1u) / 2u) + group_y) * c4 + c] = pooled;
    }
# endif
# else
    let segments = (params.wo + 3u) / 4u;
# if pooled
    let oy0 = group_y * 2u;
    let items = min(2u, params.ho - oy0) * segments;
    for (var item = local.y; item < items; item += 8u) {
# else
    let oy0 = 0u;
    let item = group_y * 8u + local.y;
    if item < params.ho * segments {
# endif
        let oy = oy0 + item / segments;
        let ox = item % segments * 4u;
# if shape == "any"
# set taps = "params.kernel"
# set stride = "params.stride"
# else
# set taps = K ~ "u"
# set stride = S ~ "u"
# endif
        let ix0 = i32(ox * ${ stride }) - i32(params.left);
# for t in range(4)
        var sum${ t } = vec4<f32>();
# endfor
        for (var ky = 0u; ky < ${ taps }; ky++) {
            let iy = i32(oy * ${ stride } + ky) - i32(params.top);
            let inside = iy >= 0 && iy < h;
            let row = (image * params.h + u32(clamp(iy, 0, h - 1))) * params.w * c4 + c;
# if shape == "any"
            for (var kx = 0u; kx < params.kernel; kx++) {
                let tap = load_w((ky * params.kernel + kx) * c4 + c);
# for t in range(4)
                let x${ t } = ix0 + i32(${ t }u * params.stride + kx);
                let v${ t } = load_x(row + u32(clamp(x${ t }, 0, w_last)) * c4);
                sum${ t } += select(vec4<f32>(), v${ t }, inside && x${ t } >= 0 && x${ t } <= w_last) * tap;
# endfor
            }
# else
# for i in range(3 * S + K)
            let x${ i } = ix0 + ${ i };
            let read${ i } = load_x(row + u32(clamp(x${ i }, 0, w_last)) * c4);
            let v${ i } = select(vec4<f32>(), read${ i }, inside && x${ i } >= 0 && x${ i } <= w_last);
# endfor
# for kx in range(K)
            let tap${ kx } = load_w((ky * ${ K }u + ${ kx }u) * c4 + c);
# for t in range(4)
            sum${ t } += v${ t * S + kx } * tap${ kx };
# endfor
# endfor
# endif
        }
# for t in range(4)
        if ox + ${ t }u < params.wo && channel < c4 {
            let v = activate(sum${ t }${ scaled } + bias);
# if pooled
            pooled += v;
# endif
            store_y(((image * params.ho + oy) * params.wo + ox + ${ t }u) * c4 + c, v);
        }
# endfor
    }
# if pooled
    sums[local.y * 8u + local.x] = pooled;
    workgroupBarrier();
    if local.y == 0u && channel < c4 {
        for (var i = 1u; i < 8u; i++) {
            pooled += sums[i * 8u + local.x];
        }
        partials[(image * ((params.ho + 1u) / 2u) + group_y) * c4 + c] = pooled;
    }
# endif
# endif
}
