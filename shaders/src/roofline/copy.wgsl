// Copies fours of values: what an adapter reads and writes at best.
//
// An invocation copies EACH fours that lie a workgroup apart, so that neighbours touch neighbouring words and enough loads are
// under way at once.
# set EACH = 8

struct Params {
    // fours of values, and invocations in a row of the grid
    count: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [count]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [count]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let invocation = id.y * params.width + id.x;
    let first = invocation / 64u * ${ 64 * EACH }u + invocation % 64u;
    let last = params.count - 1u;
# for i in range(EACH)
    let v${ i } = x[min(first + ${ 64 * i }u, last)];
# endfor
# for i in range(EACH)
    if first + ${ 64 * i }u < params.count {
        y[first + ${ 64 * i }u] = v${ i };
    }
# endfor
}
