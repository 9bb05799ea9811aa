// Queries and keys, normalized head by head where the model does so, turned by their positions; keys and values put into the cache.
//
// A workgroup owns a head of a token; an invocation owns every LANES-th group of W neighbouring columns of it, and those half a head
// further on. Value heads are copied. A head of an 8-bit cache is preceded by its scale, for which its columns are computed twice.
//@ axis path = portable(LANES=32) | subgroup4(LANES=4, SG=4) | subgroup8(LANES=8, SG=8)
//@ axis cache = f32(W=2) | f16(W=2) | q8(W=4)
# set subgroups = path != "portable"
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
const NOT_FINITE = 0x7f800000u;
const NAN_BITS = 0x7fc00000u;

// The larger of two magnitudes. As whole numbers they are in the same order, and what is not finite is the largest, which max of
// floats may pass over.
fn larger(a: f32, b: f32) -> f32 {
    return bitcast<f32>(max(bitcast<u32>(a), bitcast<u32>(b)));
}

fn bits(v: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
}

// Four signed bytes, the first the lowest.
fn bytes(v: vec4<f32>) -> u32 {
    let b = (bitcast<vec4<u32>>(vec4<i32>(round(v))) & vec4<u32>(255u)) << vec4<u32>(0u, 8u, 16u, 24u);
    return (b.x | b.y) | (b.z | b.w);
}

# endif
# if not subgroups
var<workgroup> gathered: array<f32, ${ LANES }>;

# endif
# for name, joined, of_lanes in [("sum", "gathered[lane] + gathered[lane + step]", "subgroupAdd(value)"), ("largest", "larger(gathered[lane], gathered[lane + step])", "bitcast<f32>(subgroupMax(bitcast<u32>(value)))")]
# if name == "sum" or cache == "q8"
fn ${ name }_of_all(lane: u32, value: f32) -> f32 {
# if subgroups
    return ${ of_lanes };
# else
    gathered[lane] = value;
    workgroupBarrier();
    for (var step = ${ LANES // 2 }u; step > 0u; step /= 2u) {
        if lane < step {
            gathered[lane] = ${ joined };
        }
        workgroupBarrier();
    }
    let result = gathered[0];
    workgroupBarrier();
    return result;
# endif
}

# endif
# endfor
fn pair_of(head: Head, i: u32) -> Pair {
    if head.is_value {
        return value(head, i);
    }
    return turned(head, i);
}

@compute @workgroup_size(${ LANES })
# if subgroups
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
# else
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
# endif
    let half = params.half;
    let number = group.x;
    let first_value = params.query_heads + params.key_heads;
    let position = min(cursor[0] + group.y, params.context - 1u);
    var head = Head((group.y * params.heads + number) * 2u * half, number >= first_value, 0u, position * 2u * half, 1.0);
    if number >= params.query_heads {
        head.gain = 2u * half;
    }
    if head.is_value && params.heads == first_value {
        head.at = (group.y * params.key_heads + number - first_value) * 2u * half;
    }
    if params.normalize != 0u && !head.is_value {
        var square = 0.0;
        for (var i = lane; i < 2u * half; i += ${ LANES }u) {
            let part = x[head.at + i];
            square += dot(part, part);
        }
        head.factor = inverseSqrt(sum_of_all(lane, square) / f32(${ 2 * W }u * half) + params.epsilon);
    }
# if cache == "q8"
    var peaks = vec4<u32>();
    for (var i = lane; i < half; i += ${ LANES }u) {
        let pair = pair_of(head, i);
        peaks = max(peaks, max(bits(pair.low), bits(pair.high)));
    }
    let top = bitcast<u32>(largest_of_all(lane, bitcast<f32>(max(max(peaks.x, peaks.y), max(peaks.z, peaks.w)))));
    let peak = bitcast<f32>(select(0u, top, top < NOT_FINITE));
    var inverse = 0.0;
    if peak > 0.0 {
        inverse = 127.0 / peak;
    }
    let scale = select(NAN_BITS, bitcast<u32>(peak / 127.0), top < NOT_FINITE);
# endif
    // What lies beyond the tokens of the run, or beyond the context, is not stored.
    let end = select(0u, half, group.y < cursor[1] && cursor[0] + group.y < params.context);
    let of_keys = select(number - params.query_heads, number - first_value, head.is_value);
    let row = position * params.key_heads + of_keys;
# if cache == "q8"
    let to = row * (2u * half + 1u) + 1u;
    if lane == 0u && end > 0u && number >= params.query_heads {
        if head.is_value {
            values[to - 1u] = scale;
        } else {
            keys[to - 1u] = scale;
        }
    }
# else
    let to = row * 2u * half;
# endif
    for (var i = lane; i < end; i += ${ LANES }u) {
        let pair = pair_of(head, i);
        if number < params.query_heads {
            let of_queries = (group.y * params.query_heads + number) * 2u * half + i;
            q[of_queries] = pair.low;
            q[of_queries + half] = pair.high;
        } else {
# if cache == "q8"
            let low = bytes(pair.low * inverse);
            let high = bytes(pair.high * inverse);
# elif cache == "f16"
            let low = pack2x16float(pair.low);
            let high = pack2x16float(pair.high);
# else
            let low = pair.low;
            let high = pair.high;
# endif
            if head.is_value {
                values[to + i] = low;
                values[to + i + half] = high;
            } else {
                keys[to + i] = low;
                keys[to + i + half] = high;
            }
        }
    }
}
