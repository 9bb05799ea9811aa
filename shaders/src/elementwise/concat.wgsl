// Two tensors one after the other along an axis.
//
// An invocation owns one stored value of the result. Seen from outside the axis, a tensor is blocks of consecutive values:
// the result takes a block of `a`, then one of `b`, in turn. Pad lanes are written as zeros.

struct Params {
    // stored values of the result, and invocations in a row of the grid
    count: u32,
    width: u32,
    // values of a row of the result, of a and of b
    last: u32,
    last_a: u32,
    last_b: u32,
    // values of a block of a and of b
    block_a: u32,
    block_b: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// Where value `i` of rows of `last` is stored.
fn stored(i: u32, last: u32) -> u32 {
    return i / last * ((last + 3u) / 4u * 4u) + i % last;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * params.width + id.x;
    if i < params.count {
        let stride = (params.last + 3u) / 4u * 4u;
        let column = i % stride;
        let value = i / stride * params.last + min(column, params.last - 1u);
        let both = params.block_a + params.block_b;
        let block = value / both;
        let place = value % both;
        var v = 0.0;
        if place < params.block_a {
            v = a[stored(block * params.block_a + place, params.last_a)];
        } else {
            v = b[stored(block * params.block_b + place - params.block_a, params.last_b)];
        }
        y[i] = select(0.0, v, column < params.last);
    }
}
