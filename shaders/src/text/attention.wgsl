// Attention of a run's queries to a session's cache, keys up to each query's own position, softmax as the keys go by.
//
// portable: a workgroup owns a head of a token; its invocations score 64 keys at a time, then sum up four columns each.
// subgroupN: a subgroup owns a head of a token; a lane scores every SG-th key and sums up every SG-th four of columns.
//@ axis path = portable(WG=64) | subgroup4(SG=4) | subgroup8(SG=8)
//@ axis cache = f32 | f16 | q8
//@ axis most = h64(D4=16) | h256(D4=64)
//@ skip path=portable, most=h64
# set subgroups = path != "portable"
# set stored = {"f32": "vec4<f32>", "f16": "vec2<u32>", "q8": "u32"}[cache]
# set lanes = SG if subgroups else WG

struct Params {
    // tokens of a run
    m: u32,
    // heads of queries, and how many of them share a head of keys
    query_heads: u32,
    group: u32,
    // columns of a head in fours
    d4: u32,
    // heads of keys
    key_heads: u32,
    // room for tokens
    context: u32,
    // how many positions a query sees, its own included
    window: u32,
    // multiplies the scores
    scale: f32,
    // scores are bounded as cap * tanh(score / cap); none when 0
    cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, query_heads * head]
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
// [context, key_heads, head]
@group(0) @binding(2) var<storage, read> keys: array<${ stored }>;
@group(0) @binding(3) var<storage, read> values: array<${ stored }>;
// [2]: tokens in the cache, tokens that this run adds
@group(0) @binding(4) var<storage, read> cursor: array<u32>;
// [m, query_heads * head]
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

# for name in ["keys", "values"]
# if cache == "f16"
fn load_${ name }(i: u32) -> vec4<f32> {
    let halves = ${ name }[i];
    return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
}

# elif cache == "q8"
fn load_${ name }(i: u32) -> vec4<f32> {
    let bytes = vec4<u32>(${ name }[i]) << vec4<u32>(24u, 16u, 8u, 0u);
    return vec4<f32>(bitcast<vec4<i32>>(bytes) >> vec4<u32>(24u));
}

# else
fn load_${ name }(i: u32) -> vec4<f32> {
    return ${ name }[i];
}

# endif
# endfor
// Where head `group` of position `position` begins in a cache${ ", after its scale" if cache == "q8" else "" }.
fn place(position: u32, group: u32) -> u32 {
# if cache == "q8"
    return (position * params.key_heads + group) * (params.d4 + 1u) + 1u;
# else
    return (position * params.key_heads + group) * params.d4;
# endif
}

// Lower than every score.
const LOWEST = -3.0e38;

fn bounded(sum: f32) -> f32 {
    let score = sum * params.scale;
    if params.cap > 0.0 {
        return params.cap * tanh(clamp(score / params.cap, -20.0, 20.0));
    }
    return score;
}

# if not subgroups
var<workgroup> weights: array<f32, ${ WG }>;

fn largest(lane: u32, value: f32) -> f32 {
    weights[lane] = value;
    workgroupBarrier();
    for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
        if lane < half {
            weights[lane] = max(weights[lane], weights[lane + half]);
        }
        workgroupBarrier();
    }
    let result = weights[0];
    workgroupBarrier();
    return result;
}

# endif
@compute @workgroup_size(${ lanes })
# if subgroups
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
# else
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
# endif
    let d4 = params.d4;
    let query = (group.y * params.query_heads + group.x) * d4;
    let key_head = group.x / params.group;
    // Tokens beyond the run's, and beyond the context, look at what there is; nobody reads what becomes of them.
    let end = min(cursor[0] + group.y + 1u, params.context);
    let begin = end - min(end, params.window);

    var top = LOWEST;
    var total = 0.0;
# set fours = D4 // SG if subgroups else 1
# for c in range(fours)
    var sum${ c } = vec4<f32>();
# endfor
    for (var base = begin; base < end; base += ${ lanes }u) {
        let key = min(base + lane, end - 1u);
        let row = place(key, key_head);
        var products = vec4<f32>();
# if subgroups
        for (var i = 0u; i < d4; i += ${ SG }u) {
            let own = min(i + lane, d4 - 1u);
            let part = select(vec4<f32>(), q[query + own], i + lane < d4);
# for l in range(SG)
            products += subgroupBroadcast(part, ${ l }u) * load_keys(row + min(i + ${ l }u, d4 - 1u));
# endfor
        }
# else
        for (var i = 0u; i < d4; i++) {
            products += q[query + i] * load_keys(row + i);
        }
# endif
# if cache == "q8"
        products *= bitcast<f32>(keys[row - 1u]);
# endif
        let score = bounded((products.x + products.y) + (products.z + products.w));
        let inside = base + lane < end;
# if subgroups
        let peak = max(top, subgroupMax(select(LOWEST, score, inside)));
# else
        let peak = max(top, largest(lane, select(LOWEST, score, inside)));
# endif
        let weight = select(0.0, exp(score - peak), inside);
        let shrink = exp(top - peak);
        top = peak;
        total = total * shrink + weight;
# if subgroups
# if cache == "q8"
        let scaled = weight * bitcast<f32>(values[row - 1u]);
# else
        let scaled = weight;
# endif
# for l in range(SG)
        let weight${ l } = subgroupBroadcast(scaled, ${ l }u);
        let row${ l } = place(min(base + ${ l }u, end - 1u), key_head);
# endfor
# for c in range(fours)
        if ${ c * SG }u < d4 {
            let own = min(${ c * SG }u + lane, d4 - 1u);
            sum${ c } *= shrink;
# for l in range(SG)
            sum${ c } += weight${ l } * load_values(row${ l } + own);
# endfor
        }
# endfor
# else
        weights[lane] = weight;
        workgroupBarrier();
        if lane < d4 {
            sum0 *= shrink;
            let rows = min(${ WG }u, end - base);
            for (var l = 0u; l < rows; l++) {
                let from_row = place(base + l, key_head);
# if cache == "q8"
                sum0 += weights[l] * bitcast<f32>(values[from_row - 1u]) * load_values(from_row + lane);
# else
                sum0 += weights[l] * load_values(from_row + lane);
# endif
            }
        }
        workgroupBarrier();
# endif
    }
# if subgroups
    let share = 1.0 / subgroupAdd(total);
# for c in range(fours)
    if ${ c * SG }u + lane < d4 {
        y[query + ${ c * SG }u + lane] = sum${ c } * share;
    }
# endfor
# else
    weights[lane] = total;
    workgroupBarrier();
    var all = 0.0;
    for (var l = 0u; l < ${ WG }u; l++) {
        all += weights[l];
    }
    if lane < d4 {
        y[query + lane] = sum0 / all;
    }
# endif
}
