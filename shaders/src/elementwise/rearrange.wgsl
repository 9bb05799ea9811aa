// Values of the input at other places: transposed, cut out, reversed, repeated, padded with a constant.
//
// An invocation owns one stored value of the result and finds its source axis by axis. Pad lanes are written as zeros.

struct Params {
    // of every axis of the result, innermost first: extent; place of its first value on the input's axis; step there; and
    // extent of that axis
    axes: array<vec4<i32>, 6>,
    // of the same axes: step of the input's storage
    steps: array<vec4<u32>, 6>,
    // stored values of the result, and invocations in a row of the grid
    count: u32,
    width: u32,
    // values of a row of the result
    last: u32,
    // what stands where the input has nothing
    constant: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * params.width + id.x;
    if i < params.count {
        let stride = (params.last + 3u) / 4u * 4u;
        let column = i % stride;
        var rest = i32(i / stride * params.last + min(column, params.last - 1u));
        var at = 0u;
        var inside = true;
        for (var axis = 0u; axis < 6u; axis++) {
            let entry = params.axes[axis];
            let place = entry.y + rest % entry.x * entry.z;
            rest /= entry.x;
            inside = inside && place >= 0 && place < entry.w;
            at += u32(clamp(place, 0, entry.w - 1)) * params.steps[axis].x;
        }
        let v = select(params.constant, x[at], inside);
        y[i] = select(0.0, v, column < params.last);
    }
}
