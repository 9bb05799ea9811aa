// The same values in the same order under another shape, whose rows may be padded differently.
//
// An invocation owns one stored value of the result. Pad lanes are written as zeros.

struct Params {
    // stored values of the result, and invocations in a row of the grid
    count: u32,
    width: u32,
    // values of a row of the input, and of the result
    last_x: u32,
    last_y: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * params.width + id.x;
    if i < params.count {
        let stride_x = (params.last_x + 3u) / 4u * 4u;
        let stride_y = (params.last_y + 3u) / 4u * 4u;
        let column = i % stride_y;
        let value = i / stride_y * params.last_y + min(column, params.last_y - 1u);
        let v = x[value / params.last_x * stride_x + value % params.last_x];
        y[i] = select(0.0, v, column < params.last_y);
    }
}
