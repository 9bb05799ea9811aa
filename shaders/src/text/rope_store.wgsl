// Queries and keys, normalized head by head where the model does so, turned by their positions; keys and values put into the cache.
//
// An invocation owns a pair of columns, i and i + half, of one head of one token; value heads are copied.
//@ axis path = portable

struct Params {
    // tokens of a run
    m: u32,
    // heads of queries, and of keys
    query_heads: u32,
    key_heads: u32,
    // half the columns of a head
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
// [m, heads * 2 half]: queries, keys, and values if they are not apart
@group(0) @binding(1) var<storage, read> x: array<f32>;
// [context, 2 half]: cosines, then sines
@group(0) @binding(2) var<storage, read> turns: array<f32>;
// [2]: tokens in the cache, tokens that this run adds
@group(0) @binding(3) var<storage, read> cursor: array<u32>;
// [2, 2 half]: the gains of queries, and of keys; bound to turns when there are none
@group(0) @binding(4) var<storage, read> gains: array<f32>;
// [m, key_heads * 2 half]: values that are apart; bound to x when they are not
@group(0) @binding(5) var<storage, read> apart: array<f32>;
// [context, key_heads * 2 half]
@group(0) @binding(6) var<storage, read_write> keys: array<f32>;
@group(0) @binding(7) var<storage, read_write> values: array<f32>;
// [m, query_heads * 2 half]
@group(0) @binding(8) var<storage, read_write> q: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let half = params.half;
    let turned = params.query_heads + params.key_heads;
    let head = id.x / half;
    let i = id.x % half;
    let position = cursor[0] + id.y;
    if head >= turned + params.key_heads || id.y >= cursor[1] || position >= params.context {
        return;
    }
    if head >= turned {
        let to = (position * params.key_heads + head - turned) * 2u * half + i;
        if params.heads == turned {
            let place = (id.y * params.key_heads + head - turned) * 2u * half + i;
            values[to] = apart[place];
            values[to + half] = apart[place + half];
        } else {
            let place = (id.y * params.heads + head) * 2u * half + i;
            values[to] = x[place];
            values[to + half] = x[place + half];
        }
        return;
    }
    let at = (id.y * params.heads + head) * 2u * half + i;
    var low = x[at];
    var high = x[at + half];
    let is_key = head >= params.query_heads;
    if params.normalize != 0u {
        var square = 0.0;
        for (var c = 0u; c < 2u * half; c++) {
            let value = x[at - i + c];
            square += value * value;
        }
        let factor = inverseSqrt(square / f32(2u * half) + params.epsilon);
        let gain = select(0u, 2u * half, is_key) + i;
        low *= factor * gains[gain];
        high *= factor * gains[gain + half];
    }
    let row = position * 2u * half + i;
    let c = turns[row];
    let s = turns[row + half];
    if !is_key {
        let to = (id.y * params.query_heads + head) * 2u * half + i;
        q[to] = low * c - high * s;
        q[to + half] = high * c + low * s;
    } else {
        let to = (position * params.key_heads + head - params.query_heads) * 2u * half + i;
        keys[to] = low * c - high * s;
        keys[to + half] = high * c + low * s;
    }
}
