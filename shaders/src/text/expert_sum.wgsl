// What the experts of each token gave, added up: y[t] = residual[t] + the sum over its experts, in their order, of share * x[t, s].
//
// An invocation owns four columns of a token.
//@ native

struct Params {
    // experts of a token, and those in fours
    chosen: u32,
    c4: u32,
    // columns in fours
    n4: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, chosen, n]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [m, chosen]
@group(0) @binding(2) var<storage, read> shares: array<f32>;
// [m, n]
@group(0) @binding(3) var<storage, read> residual: array<vec4<f32>>;
// [m, n]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n4 = params.n4;
    if id.x < n4 {
        var sum = vec4<f32>();
        for (var s = 0u; s < params.chosen; s++) {
            sum += shares[id.y * params.c4 * 4u + s] * x[(id.y * params.chosen + s) * n4 + id.x];
        }
        y[id.y * n4 + id.x] = residual[id.y * n4 + id.x] + sum;
    }
}
