// Queries and keys, normalized head by head where the model does so, turned by their positions; keys and values put into the cache.
//
// An invocation owns W neighbouring columns of one head of one token, and those half a head further on; value heads are copied.
// A head of an 8-bit cache is preceded by its scale, for which each invocation goes over the whole head.
//@ axis cache = f32(W=2) | f16(W=2) | q8(W=4)
# set V = "vec" ~ W ~ "<f32>"
# set stored = {"f32": V, "f16": "u32", "q8": "u32"}[cache]

struct Params {
    // tokens of a run
    m: u32,
    // heads of queries, and of keys
    query_heads: u32,
    key_heads: u32,
    // half the columns of a head, W at a time
    half: u32,
    // room for tokens
    context: u32,
    // whether heads of queries and keys are divided by their root mean square and multiplied by gains
    normalize: u32,
    // added to the mean square
    epsilon: f32,
    // heads in a row of x
    heads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, heads * head]: queries, keys, and values if they are not apart
@group(0) @binding(1) var<storage, read> x: array<${ V }>;
// [context, head]: cosines, then sines
@group(0) @binding(2) var<storage, read> turns: array<${ V }>;
// [2]: tokens in the cache, tokens that this run adds
@group(0) @binding(3) var<storage, read> cursor: array<u32>;
// [2, head]: the gains of queries, and of keys; bound to turns when there are none
@group(0) @binding(4) var<storage, read> gains: array<${ V }>;
// [m, key_heads * head]: values that are apart; bound to x when they are not
@group(0) @binding(5) var<storage, read> apart: array<${ V }>;
// [context, key_heads, head]
@group(0) @binding(6) var<storage, read_write> keys: array<${ stored }>;
@group(0) @binding(7) var<storage, read_write> values: array<${ stored }>;
// [m, query_heads * head]
@group(0) @binding(8) var<storage, read_write> q: array<${ V }>;

// Some columns, and those half a head further on.
struct Pair {
    low: ${ V },
    high: ${ V },
}

// What is read of one head of one token.
struct Head {
    // where it begins in x, or in the values that are apart
    at: u32,
    is_value: bool,
    // where its gains and its turns begin, and what a norm multiplies it by
    gain: u32,
    turn: u32,
    factor: f32,
}

fn value(head: Head, i: u32) -> Pair {
    if params.heads == params.query_heads + params.key_heads {
        return Pair(apart[head.at + i], apart[head.at + params.half + i]);
    }
    return Pair(x[head.at + i], x[head.at + params.half + i]);
}

fn turned(head: Head, i: u32) -> Pair {
    var low = x[head.at + i];
    var high = x[head.at + params.half + i];
    if params.normalize != 0u {
        low *= head.factor * gains[head.gain + i];
        high *= head.factor * gains[head.gain + params.half + i];
    }
    let c = turns[head.turn + i];
    let s = turns[head.turn + params.half + i];
    return Pair(low * c - high * s, high * c + low * s);
}

# if cache == "q8"
// The largest magnitude of a head that goes into the cache.
fn peak_of(head: Head) -> f32 {
    var peak = vec4<f32>();
    for (var i = 0u; i < params.half; i++) {
        var pair = Pair();
        if head.is_value {
            pair = value(head, i);
        } else {
            pair = turned(head, i);
        }
        peak = max(peak, max(abs(pair.low), abs(pair.high)));
    }
    return max(max(peak.x, peak.y), max(peak.z, peak.w));
}

// Four signed bytes, the first the lowest.
fn bytes(v: vec4<f32>) -> u32 {
    let b = (bitcast<vec4<u32>>(vec4<i32>(round(v))) & vec4<u32>(255u)) << vec4<u32>(0u, 8u, 16u, 24u);
    return (b.x | b.y) | (b.z | b.w);
}

# endif
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let half = params.half;
    let first_value = params.query_heads + params.key_heads;
    let number = id.x / half;
    let i = id.x % half;
    let position = cursor[0] + id.y;
    if number >= first_value + params.key_heads || id.y >= cursor[1] || position >= params.context {
        return;
    }
    var head = Head((id.y * params.heads + number) * 2u * half, number >= first_value, 0u, position * 2u * half, 1.0);
    if number >= params.query_heads {
        head.gain = 2u * half;
    }
    var pair = Pair();
    if head.is_value {
        if params.heads == first_value {
            head.at = (id.y * params.key_heads + number - first_value) * 2u * half;
        }
        pair = value(head, i);
    } else {
        if params.normalize != 0u {
            var square = 0.0;
            for (var c = 0u; c < 2u * half; c++) {
                let part = x[head.at + c];
                square += dot(part, part);
            }
            head.factor = inverseSqrt(square / f32(${ 2 * W }u * half) + params.epsilon);
        }
        pair = turned(head, i);
    }
    if number < params.query_heads {
        let to = (id.y * params.query_heads + number) * 2u * half + i;
        q[to] = pair.low;
        q[to + half] = pair.high;
        return;
    }
    let of_keys = select(number - params.query_heads, number - first_value, head.is_value);
    let row = position * params.key_heads + of_keys;
# if cache == "q8"
    let to = row * (2u * half + 1u) + 1u + i;
    let peak = peak_of(head);
    var inverse = 0.0;
    if peak > 0.0 {
        inverse = 127.0 / peak;
    }
    let low = bytes(pair.low * inverse);
    let high = bytes(pair.high * inverse);
# else
    let to = row * 2u * half + i;
# if cache == "f16"
    let low = pack2x16float(pair.low);
    let high = pack2x16float(pair.high);
# else
    let low = pair.low;
    let high = pair.high;
# endif
# endif
    if head.is_value {
        values[to] = low;
        values[to + half] = high;
# if cache == "q8"
        if i == 0u {
            values[to - 1u] = bitcast<u32>(peak / 127.0);
        }
# endif
    } else {
        keys[to] = low;
        keys[to + half] = high;
# if cache == "q8"
        if i == 0u {
            keys[to - 1u] = bitcast<u32>(peak / 127.0);
        }
# endif
    }
}
