// Average or maximum over windows of an image.
//
// An invocation owns four channels of one pixel of the result.
//@ axis op = average | max

struct Params {
    // fours of values, and invocations in a row of the grid
    count: u32,
    width: u32,
    // channels in fours
    c4: u32,
    // height and width of the input, and of the output
    in_h: i32,
    in_w: i32,
    out_h: u32,
    out_w: u32,
    // of the window
    kernel_h: i32,
    kernel_w: i32,
    stride_h: i32,
    stride_w: i32,
    dilation_h: i32,
    dilation_w: i32,
    // pixels of padding
    top: i32,
    left: i32,
    bottom: i32,
    right: i32,
    // whether padding counts as pixels of value zero
    padding_counts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [images, in_h, in_w, c]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [images, out_h, out_w, c]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * params.width + id.x;
    if i < params.count {
        let channel = i % params.c4;
        let pixel = i / params.c4;
        let image = pixel / params.out_w / params.out_h;
        let first_row = i32(pixel / params.out_w % params.out_h) * params.stride_h - params.top;
        let first_column = i32(pixel % params.out_w) * params.stride_w - params.left;
# if op == "max"
        var result = vec4<f32>(-3.0e38);
# else
        var result = vec4<f32>();
        var seen = 0u;
# endif
        for (var ky = 0; ky < params.kernel_h; ky++) {
            let row = first_row + ky * params.dilation_h;
            for (var kx = 0; kx < params.kernel_w; kx++) {
                let column = first_column + kx * params.dilation_w;
                let inside = row >= 0 && row < params.in_h && column >= 0 && column < params.in_w;
                if inside {
                    let at = (i32(image) * params.in_h + row) * params.in_w + column;
# if op == "max"
                    result = max(result, x[u32(at) * params.c4 + channel]);
# else
                    result += x[u32(at) * params.c4 + channel];
# endif
                }
# if op == "average"
                let padded = row < params.in_h + params.bottom && column < params.in_w + params.right;
                if inside || (padded && params.padding_counts != 0u) {
                    seen++;
                }
# endif
            }
        }
# if op == "average"
        result /= f32(max(seen, 1u));
# endif
        y[i] = result;
    }
}
