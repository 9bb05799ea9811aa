// Makes one of the parts of an attention: each counts as much as its sum of exponentials.
//
// An invocation owns four columns of a head of a token. Every part counts for its mass relative to the largest.

struct Params {
    // tokens of a run
    m: u32,
    // heads of queries
    query_heads: u32,
    // columns of a head in fours
    d4: u32,
    // parts
    parts: u32,
    // numbers in a row of masses
    masses: u32,
    // room for tokens
    context: u32,
    // how many positions a query sees, its own included
    window: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, query_heads * parts * head]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [m, query_heads * parts]
@group(0) @binding(2) var<storage, read> masses: array<f32>;
// [2]: tokens in the cache, tokens that this run adds
@group(0) @binding(3) var<storage, read> cursor: array<u32>;
// [m, query_heads * head]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

// The keys that a token sees, from the first to before the last.
fn seen_by(token: u32) -> vec2<u32> {
    let last = min(cursor[0] + token + 1u, params.context);
    return vec2<u32>(last - min(last, params.window), last);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let d4 = params.d4;
    if id.x >= params.query_heads * d4 {
        return;
    }
    let token = id.y;
    let head = id.x / d4;
    let seen = seen_by(token);
    let begin = seen_by(0u).x;
    let size = max((seen_by(params.m - 1u).y - begin + params.parts - 1u) / params.parts, 64u);
    let mass = token * params.masses + head * params.parts;
    let place = ((token * params.query_heads + head) * params.parts) * d4 + id.x % d4;
    var top = -3.0e38;
    var total = 0.0;
    var sum = vec4<f32>();
    // The last key lies in some part, so there is one that counts.
    for (var part = 0u; part < params.parts; part++) {
        let first = max(begin + part * size, seen.x);
        if first < min(begin + (part + 1u) * size, seen.y) {
            let found = masses[mass + part];
            let peak = max(top, found);
            let shrink = exp(top - peak);
            let weight = exp(found - peak);
            top = peak;
            total = total * shrink + weight;
            sum = sum * shrink + weight * x[place + part * d4];
        }
    }
    y[token * params.query_heads * d4 + id.x] = sum / total;
}
