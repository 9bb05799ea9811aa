// Sums fours of values: what an adapter reads at best, with next to nothing written.
//
// An invocation sums EACH fours that lie a workgroup apart, in four sums so that no load waits for an addition.
# set EACH = 32

struct Params {
    // fours of values, and invocations in a row of the grid
    count: u32,
    width: u32,
    // fours of sums
    sums: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [count]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [sums]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

// Zeros after the end.
fn load(i: u32) -> vec4<f32> {
    return select(vec4<f32>(), x[min(i, params.count - 1u)], i < params.count);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let invocation = id.y * params.width + id.x;
    let first = invocation / 64u * ${ 64 * EACH }u + invocation % 64u;
# for t in range(4)
    var sum${ t } = vec4<f32>();
# endfor
    for (var i = first; i < first + ${ 64 * EACH }u; i += 256u) {
# for t in range(4)
        sum${ t } += load(i + ${ 64 * t }u);
# endfor
    }
    if invocation < params.sums {
        y[invocation] = (sum0 + sum1) + (sum2 + sum3);
    }
}
