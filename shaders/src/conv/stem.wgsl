// The first convolution of an image network, straight from pixels: y = act(conv(normalize(pixels), w) + bias).
//
// portable: an invocation owns 4 pixels x 4 channels.
// broad: an invocation owns TM pixels x 8*NG channels, so that a pixel is read and normalized for many of them; for adapters that have
// no subgroup operations and for which loads are what costs. Weights come and results go by eight channels, because a browser looks at
// each index whether it lies within the buffer; so channels must be a multiple of eight.
// subgroupN: a subgroup owns TM pixels x 4*SG channels and a lane 4 of those channels; for each tap a lane loads and
// normalizes the input of other pixels, which are then broadcast from its registers.
//@ axis path = portable(TM=4, NG=1) | broad(TM=8, NG=2) | subgroup4(SG=4, TM=16, NG=1) | subgroup8(SG=8, TM=24, NG=1)
//@ axis pixels = rgba8 | f32
//@ axis storage = f32 | f16 | i8
//@ skip path=broad, storage=f16
//@ skip path=broad, storage=i8
# import "storage" as storage_of
# import "activation" as activation
# set values = "f16" if storage == "f16" else "f32"
# set subgroups = path in ["subgroup4", "subgroup8"]
# set eights = path == "broad"
# set parts = 2 if eights else 1

struct Params {
    // the input image
    h: u32,
    w: u32,
    // the output image
    ho: u32,
    wo: u32,
    // output pixels of all images
    m: u32,
    // channels out, in fours
    n4: u32,
    // extent of the square window, its step, and the padding before the image
    kernel: u32,
    stride: u32,
    top: u32,
    left: u32,
    // a byte is normalized as byte * scale + offset
    scale_r: f32,
    scale_g: f32,
    scale_b: f32,
    offset_r: f32,
    offset_g: f32,
    offset_b: f32,
${ activation.fields() }
    // the first workgroup in x and in y, where a launch is of some of them
    first_group: u32,
    first_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
# if pixels == "rgba8"
// [images, h, w], red in the lowest byte
@group(0) @binding(1) var<storage, read> x: array<u32>;
# else
// [images, h, w], already normalized; the fourth value does not matter
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
# endif
// [kernel * kernel * 3, n]
@group(0) @binding(2) var<storage, read> w: ${ "array<array<vec4<f32>, 2>>" if eights else storage_of.rows("i8" if storage == "i8" else "f32") };
// [1 or 2, n]: the bias, then the scale of each output channel of byte weights
@group(0) @binding(3) var<storage, read> affine: ${ "array<array<vec4<f32>, 2>>" if eights else "array<vec4<f32>>" };
// [m, n]
@group(0) @binding(4) var<storage, read_write> y: ${ "array<array<vec4<f32>, 2>>" if eights else storage_of.rows(values) };

# if not eights
${ storage_of.writer("y", values) }

# endif
${ activation.function() }

// The three values of one pixel as the convolution sees them.
fn pixel(i: u32) -> vec3<f32> {
# if pixels == "rgba8"
    let bytes = (vec3<u32>(x[i]) >> vec3<u32>(0u, 8u, 16u)) & vec3<u32>(255u);
    let scale = vec3<f32>(params.scale_r, params.scale_g, params.scale_b);
    return vec3<f32>(bytes) * scale + vec3<f32>(params.offset_r, params.offset_g, params.offset_b);
# else
    return x[i].xyz;
# endif
}

# if not eights
${ storage_of.reader("w", "i8" if storage == "i8" else "f32") }

# endif
# set groups = (TM + SG - 1) // SG if subgroups else TM
# if subgroups
@compute @workgroup_size(${ SG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let first = (params.first_row + group.y) * ${ TM }u;
    let column0 = (params.first_group + group.x) * ${ SG }u + lane;
# else
@compute @workgroup_size(${ "1, 8" if path == "broad" else "8, 8" })
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let first = (params.first_row * 8u + id.y) * ${ TM }u;
# for g in range(NG)
    let column${ g } = (params.first_group * ${ 1 if path == "broad" else 8 }u + id.x) * ${ NG }u + ${ g }u;
# endfor
# endif
    let width = params.n4${ " / 2u" if eights else "" };
    // Addresses are clamped and only the stores are guarded.
# for g in range(NG)
    let n_${ g } = min(column${ g }, width - 1u);
# endfor
    let size = vec2<i32>(i32(params.w), i32(params.h));
    let border = vec2<i32>(i32(params.left), i32(params.top));
# for p in range(groups)
    let pixel${ p } = min(first + ${ p * SG if subgroups else p }u${ " + lane" if subgroups else "" }, params.m - 1u);
    let row${ p } = pixel${ p } / params.wo;
    let corner${ p } = vec2<i32>(vec2<u32>(pixel${ p } % params.wo, row${ p } % params.ho) * params.stride) - border;
    let image${ p } = row${ p } / params.ho * params.h;
# endfor
# for g in range(NG)
# for t in range(TM)
# for part in range(parts)
    var sum${ t }_${ g }_${ part } = vec4<f32>();
# endfor
# endfor
# endfor
    var tap = 0u;
    for (var ky = 0u; ky < params.kernel; ky++) {
        for (var kx = 0u; kx < params.kernel; kx++) {
            let offset = vec2<i32>(i32(kx), i32(ky));
# for p in range(groups)
            let at${ p } = corner${ p } + offset;
            let near${ p } = vec2<u32>(clamp(at${ p }, vec2<i32>(), size - 1));
            let read${ p } = pixel((image${ p } + near${ p }.y) * params.w + near${ p }.x);
            let a${ p } = select(vec3<f32>(), read${ p }, all(at${ p } == vec2<i32>(near${ p })));
# endfor
# for g in range(NG)
# for i in range(3)
# if eights
            let w${ i }_${ g } = w[tap + ${ i }u * width + n_${ g }];
# else
            let w${ i }_${ g } = load_w(tap + ${ i }u * width + n_${ g });
# endif
# endfor
# endfor
            tap += 3u * width;
# for g in range(NG)
# for i in range(3)
# for t in range(TM)
# if subgroups
            sum${ t }_${ g }_0 += subgroupBroadcast(a${ t // SG }.${ "xyz"[i] }, ${ t % SG }u) * w${ i }_${ g };
# elif eights
            sum${ t }_${ g }_0 += a${ t }.${ "xyz"[i] } * w${ i }_${ g }[0];
            sum${ t }_${ g }_1 += a${ t }.${ "xyz"[i] } * w${ i }_${ g }[1];
# else
            sum${ t }_${ g }_0 += a${ t }.${ "xyz"[i] } * w${ i }_${ g };
# endif
# endfor
# endfor
# endfor
        }
    }
# for g in range(NG)
    let bias${ g } = affine[n_${ g }];
# if storage == "i8"
    let factor${ g } = affine[width + n_${ g }];
# endif
    if column${ g } < width {
# for t in range(TM)
        if first + ${ t }u < params.m {
# if eights
            let low${ t } = activate(sum${ t }_${ g }_0 + bias${ g }[0]);
            let high${ t } = activate(sum${ t }_${ g }_1 + bias${ g }[1]);
            y[(first + ${ t }u) * width + n_${ g }] = array<vec4<f32>, 2>(low${ t }, high${ t });
# else
            store_y((first + ${ t }u) * width + n_${ g }, activate(sum${ t }_${ g }_0${ (" * factor" ~ g) if storage == "i8" else "" } + bias${ g }));
# endif
        }
# endfor
    }
# endfor
}
