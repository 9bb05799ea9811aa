// Chains of dot products of packed bytes in registers: what an adapter computes at best in int8.
//
// An invocation keeps CHAINS chains; each product is added to the word it was made of, so that none can be left out.
# set CHAINS = 8
# set UNROLL = 8

struct Params {
    // words, and invocations in a row of the grid
    count: u32,
    width: u32,
    // rounds / UNROLL
    turns: u32,
    // four signed bytes
    weights: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [count]
@group(0) @binding(1) var<storage, read> x: array<u32>;
// [count]
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * params.width + id.x;
    let start = x[min(i, params.count - 1u)];
    let w = params.weights;
# for t in range(CHAINS)
    var v${ t } = start + ${ t * 16843009 }u;
# endfor
    for (var turn = 0u; turn < params.turns; turn++) {
# for u in range(UNROLL)
# for t in range(CHAINS)
        v${ t } += bitcast<u32>(dot4I8Packed(v${ t }, w));
# endfor
# endfor
    }
    if i < params.count {
        y[i] = v0 ^ v1 ^ v2 ^ v3 ^ v4 ^ v5 ^ v6 ^ v7;
    }
}
