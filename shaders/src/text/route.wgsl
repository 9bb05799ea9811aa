// The experts of each token: those with the largest logits, the largest first, and what share each has in the sum of their results.
//
// A workgroup owns a token and an invocation every WG-th expert. An expert's place among all is the number of those before it, so
// nothing is sorted; logits are compared as whole numbers in the order of floats, which puts every expert in one place. Four are
// compared at a time: llvmpipe ends the loops of an invocation after 65535 rounds in all.
//@ axis path = portable(WG=64) | sweep(WG=8)

struct Params {
    // experts, and experts in fours
    experts: u32,
    e4: u32,
    // experts of a token, and those in fours
    chosen: u32,
    c4: u32,
    // 1: the shares of the chosen add up to one; 0: those of all experts do
    renormalized: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, experts]: the bits of floats
@group(0) @binding(1) var<storage, read> logits: array<vec4<u32>>;
// [m, chosen], without padding
@group(0) @binding(2) var<storage, read_write> chosen: array<u32>;
// [m, chosen]
@group(0) @binding(3) var<storage, read_write> shares: array<f32>;

var<workgroup> keys: array<vec4<u32>, 256>;
var<workgroup> picked: array<f32, 64>;
var<workgroup> parts: array<f32, ${ WG }>;

// The order of a logit among all: what is no number comes before minus infinity, and both zeros are one.
fn key(bits: u32) -> u32 {
    let size = bits & 0x7fffffffu;
    if size > 0x7f800000u {
        return 0u;
    }
    let value = select(bits, 0u, size == 0u);
    return select(~value, value | 0x80000000u, value < 0x80000000u);
}

fn logit(row: u32, expert: u32) -> f32 {
    return bitcast<f32>(logits[row + expert / 4u][expert % 4u]);
}

@compute @workgroup_size(${ WG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x * params.e4;
    let four = vec4<u32>(0u, 1u, 2u, 3u);
    for (var at = lane; at < params.e4; at += ${ WG }u) {
        let bits = logits[row + at];
        let found = vec4<u32>(key(bits.x), key(bits.y), key(bits.z), key(bits.w));
        // What pads the row comes after every expert.
        keys[at] = select(vec4<u32>(), found, vec4<u32>(at * 4u) + four < vec4<u32>(params.experts));
    }
    workgroupBarrier();
    for (var i = lane; i < params.experts; i += ${ WG }u) {
        let own = vec4<u32>(keys[i / 4u][i % 4u]);
        var places = vec4<u32>();
        for (var at = 0u; at < params.e4; at++) {
            let lower = vec4<u32>(at * 4u) + four < vec4<u32>(i);
            places += vec4<u32>((keys[at] > own) | ((keys[at] == own) & lower));
        }
        let place = (places.x + places.y) + (places.z + places.w);
        if place < params.chosen {
            chosen[group.x * params.chosen + place] = i;
            picked[place] = logit(row, i);
        }
    }
    workgroupBarrier();
    let top = picked[0];
    var part = 0.0;
    if params.renormalized == 0u {
        for (var i = lane; i < params.experts; i += ${ WG }u) {
            part += exp(logit(row, i) - top);
        }
    } else {
        for (var i = lane; i < params.chosen; i += ${ WG }u) {
            part += exp(picked[i] - top);
        }
    }
    parts[lane] = part;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < ${ WG }u; i++) {
        total += parts[i];
    }
    for (var i = lane; i < params.c4 * 4u; i += ${ WG }u) {
        var share = 0.0;
        if i < params.chosen {
            share = exp(picked[i] - top) / total;
        }
        shares[group.x * params.c4 * 4u + i] = share;
    }
}
