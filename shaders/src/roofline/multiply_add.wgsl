// Chains of multiplications and additions in registers: what an adapter computes at best in f32.
//
// An invocation keeps 12 chains, which hide the latency of the units and still fit the registers of a software adapter.
# set CHAINS = 3
# set UNROLL = 16

struct Params {
    // fours of values, and invocations in a row of the grid
    count: u32,
    width: u32,
    // rounds / UNROLL
    turns: u32,
    factor: f32,
    offset: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [count]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [count]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * params.width + id.x;
    let start = x[min(i, params.count - 1u)];
    let a = params.factor;
    let b = params.offset;
# for t in range(CHAINS)
    var v${ t } = start + ${ t / 8 };
# endfor
    for (var turn = 0u; turn < params.turns; turn++) {
# for u in range(UNROLL)
# for t in range(CHAINS)
        v${ t } = v${ t } * a + b;
# endfor
# endfor
    }
    if i < params.count {
        y[i] = v0 + v1 + v2;
    }
}
