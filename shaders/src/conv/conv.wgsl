// General convolution: any window, step, dilation, padding and number of groups; y = act(conv(x, w) + bias).
//
// one: all input channels reach every output channel; an invocation owns 4 neighbouring pixels x 4 channels.
// many: the channels are in groups; an invocation owns one pixel x 4 channels and follows the group of each.
//@ axis grouping = one | many
# import "activation" as activation

struct Params {
    // the input image
    h: u32,
    w: u32,
    // the output image
    ho: u32,
    wo: u32,
    // channels in and out
    cin: u32,
    cout: u32,
    // channels in and out of one group
    cin_group: u32,
    cout_group: u32,
    // the window
    kh: u32,
    kw: u32,
    stride_y: u32,
    stride_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    // the padding before the image
    top: u32,
    left: u32,
${ activation.fields() }
    // the first workgroup in x and in y, where a launch is of some of them
    first_group: u32,
    first_row: u32,
}

# set element = "vec4<f32>" if grouping == "one" else "f32"
@group(0) @binding(0) var<uniform> params: Params;
// [images, h, w, cin]
@group(0) @binding(1) var<storage, read> x: array<${ element }>;
// [kh, kw, cin_group, cout]
@group(0) @binding(2) var<storage, read> w: array<${ element }>;
// [1, cout]
@group(0) @binding(3) var<storage, read> affine: array<vec4<f32>>;
// [images, ho, wo, cout]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

${ activation.function() }

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n4 = (params.cout + 3u) / 4u;
    let k4 = (params.cin + 3u) / 4u;
    let column = params.first_group * 8u + id.x;
    let item = params.first_row * 8u + id.y;
    // Addresses are clamped and only the stores are guarded.
    let n = min(column, n4 - 1u);
    let image = id.z;
    let size = vec2<i32>(i32(params.w), i32(params.h));
# if grouping == "one"
    let segments = (params.wo + 3u) / 4u;
    let oy = item / segments;
    let ox = item % segments * 4u;
# for t in range(4)
    var sum${ t } = vec4<f32>();
# endfor
# else
    let oy = item / params.wo;
    let ox = item % params.wo;
    var sum = vec4<f32>();
# for j in range(4)
    // output channel ${ j }, the first input channel of its group
    let n${ j } = min(n * 4u + ${ j }u, params.cout - 1u);
    let k${ j } = n${ j } / params.cout_group * params.cin_group;
# endfor
# endif
    for (var ky = 0u; ky < params.kh; ky++) {
        let iy = i32(oy * params.stride_y + ky * params.dilation_y) - i32(params.top);
        let row = (image * params.h + u32(clamp(iy, 0, size.y - 1))) * params.w;
        let inside = iy >= 0 && iy < size.y;
        for (var kx = 0u; kx < params.kw; kx++) {
            let tap = (ky * params.kw + kx) * params.cin_group;
# for t in range(4 if grouping == "one" else 1)
            let ix${ t } = i32((ox + ${ t }u) * params.stride_x + kx * params.dilation_x) - i32(params.left);
            let within${ t } = inside && ix${ t } >= 0 && ix${ t } < size.x;
            let at${ t } = (row + u32(clamp(ix${ t }, 0, size.x - 1))) * k4;
# endfor
# if grouping == "one"
            for (var k = 0u; k < k4; k++) {
                // The channels that pad the last four are no channels.
                let real = (vec4<u32>(k * 4u) + vec4<u32>(0u, 1u, 2u, 3u)) < vec4<u32>(params.cin);
# for i in range(4)
                let w${ i } = w[(tap + min(k * 4u + ${ i }u, params.cin - 1u)) * n4 + n];
# endfor
# for t in range(4)
                let a${ t } = select(vec4<f32>(), x[at${ t } + k], real & vec4<bool>(within${ t }));
                sum${ t } += a${ t }.x * w0 + a${ t }.y * w1 + a${ t }.z * w2 + a${ t }.w * w3;
# endfor
            }
# else
            for (var k = 0u; k < params.cin_group; k++) {
                let weights = (tap + k) * n4 * 4u;
                let values = at0 * 4u + k;
                let a = vec4<f32>(x[values + k0], x[values + k1], x[values + k2], x[values + k3]);
                let b = vec4<f32>(w[weights + n0], w[weights + n1], w[weights + n2], w[weights + n3]);
                sum += select(vec4<f32>(), a, within0) * b;
            }
# endif
        }
    }
    let bias = affine[n];
# if grouping == "one"
# for t in range(4)
    if column < n4 && oy < params.ho && ox + ${ t }u < params.wo {
        y[((image * params.ho + oy) * params.wo + ox + ${ t }u) * n4 + n] = activate(sum${ t } + bias);
    }
# endfor
# else
    if column < n4 && oy < params.ho {
        y[((image * params.ho + oy) * params.wo + ox) * n4 + n] = activate(sum + bias);
    }
# endif
}
