// The likeliest token, put after the run's tokens, and the position moved to it. Among equal logits the lower token wins.
//
// One workgroup; an invocation looks at every WG-th group of four logits.
//@ axis path = portable(WG=256) | sweep(WG=8)

struct Params {
    // tokens of the vocabulary
    vocabulary: u32,
    // room for tokens
    context: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [1, vocabulary]
@group(0) @binding(1) var<storage, read> logits: array<vec4<f32>>;
// [context]: the session's tokens
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;
// [2]: tokens in the cache, tokens that this run adds
@group(0) @binding(3) var<storage, read_write> cursor: array<u32>;
// [1]
@group(0) @binding(4) var<storage, read_write> sampled: array<u32>;

// No token: larger than every token.
const NONE = 0xffffffffu;

var<workgroup> best: array<f32, ${ WG }>;
var<workgroup> place: array<u32, ${ WG }>;

@compute @workgroup_size(${ WG })
fn main(@builtin(local_invocation_index) lane: u32) {
    let v4 = (params.vocabulary + 3u) / 4u;
    var top = 0.0;
    var token = NONE;
    for (var at = lane; at < v4; at += ${ WG }u) {
        let four = logits[at];
# for i in range(4)
        // NaN is never the likeliest: no comparison with it holds.
        if at * 4u + ${ i }u < params.vocabulary && (four.${ "xyzw"[i] } > top || (token == NONE && four.${ "xyzw"[i] } == four.${ "xyzw"[i] })) {
            top = four.${ "xyzw"[i] };
            token = at * 4u + ${ i }u;
        }
# endfor
    }
    best[lane] = top;
    place[lane] = token;
    workgroupBarrier();
    for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
        if lane < half {
            let other = place[lane + half];
            let better = best[lane + half] > best[lane] || (best[lane + half] == best[lane] && other < place[lane]);
            if other != NONE && (place[lane] == NONE || better) {
                best[lane] = best[lane + half];
                place[lane] = other;
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let position = cursor[0] + cursor[1];
        if position < params.context {
            tokens[position] = place[0];
        }
        cursor[0] = position;
        cursor[1] = 1u;
        sampled[0] = place[0];
    }
}
