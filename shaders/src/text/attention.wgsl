// Attention of a run's queries to a session's cache, keys up to each query's own position, softmax as the keys go by.
//
// A row is a query: a token and one of the heads that share a head of keys. A workgroup owns R neighbouring rows of a head of
// keys, and loads each key and value once for all of them. Where the keys are cut in parts it sees one part of them.
// portable, tiled: keys and values go through workgroup memory; S invocations share a row, each scores every S-th key and then
// sums up every S-th four of columns.
// subgroupN, subgroupNx4: a lane scores every SG-th key for the rows, and sums up every SG-th four of their columns.
// keysR: for software adapters, with subgroups or without: an invocation owns every WG-th key, and the invocations' sums become one at the end.
// rows16: a lane owns two rows; keys and values are loaded by all lanes together and broadcast.
//@ axis path = portable(WG=128, R=4) | tiled(WG=128, R=16) | subgroup4(SG=4, R=1) | subgroup4x4(SG=4, R=4) | subgroup8(SG=8, R=1) | subgroup8x4(SG=8, R=4) | keys3(WG=8, R=3) | keys4(WG=8, R=4) | rows16(SG=8, R=16)
//@ axis cache = f32 | f16 | q8
//@ axis most = h64(D4=16) | h128(D4=32) | h256(D4=64)
//@ axis keys = whole | part
//@ only path=subgroup4, most=h256
//@ only path=subgroup4x4, most=h256
//@ only path=subgroup8, most=h256
//@ only path=subgroup8x4, most=h256
//@ only path=keys3, most=h64|h128
//@ only path=keys4, most=h64|h128
# import "attention_keys" as by_keys
# import "attention_rows" as by_rows
# set tiles = path in ["portable", "tiled"]
# set lane_rows = path == "rows16"
# set lane_keys = path in ["keys3", "keys4"]
# set stored = {"f32": "vec4<f32>", "f16": "vec2<u32>", "q8": "u32"}[cache]
# set lanes = WG if tiles or lane_keys else SG
# set part = keys == "part"
# set many = lane_rows or lane_keys or R == 4 and not tiles
# set V = "vec4<f32>" if many else "f32"

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
    // parts that the keys are cut in
    parts: u32,
    // numbers in a row of masses
    masses: u32,
    // the first workgroup, where a launch is of some of them
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, query_heads * head]
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
// [context, key_heads, head]
@group(0) @binding(2) var<storage, read> keys: array<${ stored }>;
@group(0) @binding(3) var<storage, read> values: array<${ stored }>;
// [2]: tokens in the cache, tokens that this run adds
@group(0) @binding(4) var<storage, read> cursor: array<u32>;
// [m, query_heads * parts * head]
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
# if part
// [m, query_heads * parts]: the logarithm of each part's sum of exponentials; 0 where it sees nothing
@group(0) @binding(6) var<storage, read_write> masses: array<f32>;
# endif

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
// Where a head of position `position` begins in a cache${ ", after its scale" if cache == "q8" else "" }.
fn place(position: u32, head: u32) -> u32 {
# if cache == "q8"
    return (position * params.key_heads + head) * (params.d4 + 1u) + 1u;
# else
    return (position * params.key_heads + head) * params.d4;
# endif
}

// Lower than every score.
const LOWEST = -3.0e38;

fn bounded(sum: ${ V }) -> ${ V } {
    let score = sum * params.scale;
    if params.cap > 0.0 {
        return params.cap * tanh(clamp(score / params.cap, ${ V }(-20.0), ${ V }(20.0)));
    }
    return score;
}

// Keys from the first to before the last.
struct Span {
    first: u32,
    last: u32,
}

// Where a row's query begins, and the keys that it sees.
struct Row {
    query: u32,
    seen: Span,
}

// The keys that a token sees. Those beyond the run's, and beyond the context, look at what there is; nobody reads what becomes of
// them.
fn seen_by(token: u32) -> Span {
    let last = min(cursor[0] + token + 1u, params.context);
    return Span(last - min(last, params.window), last);
}

// The keys that rows `first` to `last` see${ " in a part" if part else "" }.
fn seen_by_rows(first: u32, last: u32${ ", part: u32" if part else "" }) -> Span {
    let seen = Span(seen_by(first / params.group).first, seen_by(last / params.group).last);
# if part
    let all = Span(seen_by(0u).first, seen_by(params.m - 1u).last);
    let size = max((all.last - all.first + params.parts - 1u) / params.parts, 64u);
    let begin = all.first + part * size;
    return Span(max(seen.first, begin), min(seen.last, begin + size));
# else
    return seen;
# endif
}

fn row_of(number: u32, key_head: u32) -> Row {
    let token = number / params.group;
    let head = token * params.query_heads + key_head * params.group + number % params.group;
    return Row(head * params.d4, seen_by(token));
}

# if part
// Where a part's sums for a query begin.
fn part_of(query: u32, part: u32) -> u32 {
    return (query / params.d4 * params.parts + part) * params.d4;
}

fn store_mass(query: u32, part: u32, top: f32, total: f32) {
    let head = query / params.d4;
    let row = head / params.query_heads;
    masses[row * params.masses + head % params.query_heads * params.parts + part] = select(0.0, top + log(total), total > 0.0);
}

# endif
# if tiles
# set S = WG // R
# set BK = 512 // D4
# set own = 1 if BK < S else BK // S
# set fours = 1 if D4 < S else D4 // S
// Keys, then values: a key's columns lie one four apart from the next key's, so that invocations reach into different banks.
var<workgroup> tile: array<vec4<f32>, ${ BK * (D4 + 1) }>;
var<workgroup> scores: array<f32, ${ R * BK }>;
var<workgroup> weights: array<f32, ${ R * BK }>;

# for name in ["keys", "values"]
fn share_${ name }(lane: u32, base: u32, last: u32, key_head: u32) {
    for (var i = lane; i < ${ BK }u * params.d4; i += ${ WG }u) {
        let j = i / params.d4;
        let row = place(min(base + j, last - 1u), key_head);
# if cache == "q8"
        tile[j * ${ D4 + 1 }u + i % params.d4] = bitcast<f32>(${ name }[row - 1u]) * load_${ name }(row + i % params.d4);
# else
        tile[j * ${ D4 + 1 }u + i % params.d4] = load_${ name }(row + i % params.d4);
# endif
    }
}

# endfor
# endif
# if lane_keys
${ by_keys.shared(R, D4, WG) }

# endif
@compute @workgroup_size(${ lanes })
# if tiles or lane_keys
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
# else
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
# endif
    let d4 = params.d4;
    // Heads of keys next to each other, then rows${ ", then parts" if part else "" }.
    let at = params.first + group.x;
    let key_head = at % params.key_heads;
    let rows = params.m * params.group;
# if part
    let blocks = (rows + ${ R - 1 }u) / ${ R }u;
    let section = at / params.key_heads / blocks;
    let first = at / params.key_heads % blocks * ${ R }u;
# else
    let first = at / params.key_heads * ${ R }u;
# endif
    let span = seen_by_rows(first, min(first + ${ R }u, rows) - 1u${ ", section" if part else "" });
# if tiles
    let number = first + lane / ${ S }u;
    let share = lane % ${ S }u;
    let row = row_of(min(number, rows - 1u), key_head);
    var top = LOWEST;
    var total = 0.0;
# for c in range(fours)
    var sum${ c } = vec4<f32>();
# endfor
    for (var base = span.first; base < span.last; base += ${ BK }u) {
        share_keys(lane, base, span.last, key_head);
        workgroupBarrier();
# for k in range(own)
        var products${ k } = vec4<f32>();
# endfor
        for (var i = 0u; i < d4; i += 2u) {
            let next = min(i + 1u, d4 - 1u);
            let part = q[row.query + i];
            let other = select(vec4<f32>(), q[row.query + next], i + 1u < d4);
# for k in range(own)
            let key${ k } = min(share + ${ k * S }u, ${ BK - 1 }u) * ${ D4 + 1 }u;
            products${ k } += part * tile[key${ k } + i] + other * tile[key${ k } + next];
# endfor
        }
# for k in range(own)
        let key${ k } = base + share + ${ k * S }u;
        let sees${ k } = key${ k } >= row.seen.first && key${ k } < min(row.seen.last, span.last);
        let score${ k } = bounded((products${ k }.x + products${ k }.y) + (products${ k }.z + products${ k }.w));
        if share + ${ k * S }u < ${ BK }u {
            scores[lane / ${ S }u * ${ BK }u + share + ${ k * S }u] = select(LOWEST, score${ k }, sees${ k });
        }
# endfor
        workgroupBarrier();
        var peak = top;
        for (var j = lane / ${ S }u * ${ BK }u; j < (lane / ${ S }u + 1u) * ${ BK }u; j += 4u) {
            peak = max(peak, max(max(scores[j], scores[j + 1u]), max(scores[j + 2u], scores[j + 3u])));
        }
        let shrink = exp(top - peak);
        top = peak;
# for k in range(own)
        if share + ${ k * S }u < ${ BK }u {
            let weight = select(0.0, exp(min(score${ k } - peak, 0.0)), sees${ k });
            weights[lane / ${ S }u * ${ BK }u + share + ${ k * S }u] = weight;
        }
# endfor
        share_values(lane, base, span.last, key_head);
        workgroupBarrier();
        total *= shrink;
# for c in range(fours)
        sum${ c } *= shrink;
# endfor
        for (var j = 0u; j < ${ BK }u; j += 2u) {
# for k in range(2)
            let weight${ k } = weights[lane / ${ S }u * ${ BK }u + j + ${ k }u];
            total += weight${ k };
# for c in range(fours)
            sum${ c } += weight${ k } * tile[(j + ${ k }u) * ${ D4 + 1 }u + min(share + ${ c * S }u, d4 - 1u)];
# endfor
# endfor
        }
        workgroupBarrier();
    }
    if number < rows {
        let to = ${ "part_of(row.query, section)" if part else "row.query" };
# for c in range(fours)
        if share + ${ c * S }u < d4 {
            y[to + share + ${ c * S }u] = sum${ c } / max(total, 1.0e-30);
        }
# endfor
# if part
        if share == 0u {
            store_mass(row.query, section, top, total);
        }
# endif
    }
# elif lane_keys
${ by_keys.body(R, D4, WG, cache, part) }
# elif lane_rows
${ by_rows.body(D4, SG, cache, part) }
# else
# set of = ["", "", "", ""] if R == 1 else [".x", ".y", ".z", ".w"]
# set fours = D4 // SG
# for r in range(R)
    let row${ r } = row_of(min(first + ${ r }u, rows - 1u), key_head);
# endfor
# if R == 1
    let begins = row0.seen.first;
    let ends = min(row0.seen.last, span.last);
# else
    let begins = vec4<u32>(row0.seen.first, row1.seen.first, row2.seen.first, row3.seen.first);
    let ends = min(vec4<u32>(row0.seen.last, row1.seen.last, row2.seen.last, row3.seen.last), vec4<u32>(span.last));
# endif
    var top = ${ V }(LOWEST);
    var total = ${ V }(0.0);
# for c in range(fours)
# for r in range(R)
    var sum${ c }_${ r } = vec4<f32>();
# endfor
# endfor
    for (var base = span.first; base < span.last; base += ${ SG }u) {
        let key = min(base + lane, span.last - 1u);
        let place_of_key = place(key, key_head);
# for r in range(R)
        var products${ r } = vec4<f32>();
# endfor
        for (var i = 0u; i < d4; i += ${ SG }u) {
            let own = min(i + lane, d4 - 1u);
# for r in range(R)
            let part${ r } = select(vec4<f32>(), q[row${ r }.query + own], i + lane < d4);
# endfor
# for l in range(SG)
            let key${ l } = load_keys(place_of_key + min(i + ${ l }u, d4 - 1u));
# for r in range(R)
            products${ r } += subgroupBroadcast(part${ r }, ${ l }u) * key${ l };
# endfor
# endfor
        }
        var sums = ${ V }(
# for r in range(R)
            (products${ r }.x + products${ r }.y) + (products${ r }.z + products${ r }.w),
# endfor
        );
# if cache == "q8"
        sums *= bitcast<f32>(keys[place_of_key - 1u]);
# endif
        let scores = bounded(sums);
# if R == 1
        let seen = key >= begins && key < ends && base + lane < span.last;
# else
        let seen = (vec4<u32>(key) >= begins) & (vec4<u32>(key) < ends) & vec4<bool>(base + lane < span.last);
# endif
        let peak = max(top, subgroupMax(select(${ V }(LOWEST), scores, seen)));
        let weight = select(${ V }(0.0), exp(min(scores - peak, ${ V }(0.0))), seen);
        let shrink = exp(top - peak);
        top = peak;
        total = total * shrink + weight;
# if cache == "q8"
        let scaled = weight * bitcast<f32>(values[place_of_key - 1u]);
# else
        let scaled = weight;
# endif
# for l in range(SG)
        let weight${ l } = subgroupBroadcast(scaled, ${ l }u);
        let value${ l } = place(min(base + ${ l }u, span.last - 1u), key_head);
# endfor
# for c in range(fours)
        if ${ c * SG }u < d4 {
            let own = min(${ c * SG }u + lane, d4 - 1u);
# for r in range(R)
            sum${ c }_${ r } *= shrink${ of[r] };
# endfor
# for l in range(SG)
            let part${ l } = load_values(value${ l } + own);
# for r in range(R)
            sum${ c }_${ r } += weight${ l }${ of[r] } * part${ l };
# endfor
# endfor
        }
# endfor
    }
    let totals = subgroupAdd(total);
# for r in range(R)
    if first + ${ r }u < rows {
        let share = 1.0 / max(totals${ of[r] }, 1.0e-30);
        let to = ${ "part_of(row" ~ r ~ ".query, section)" if part else "row" ~ r ~ ".query" };
# for c in range(fours)
        if ${ c * SG }u + lane < d4 {
            y[to + ${ c * SG }u + lane] = sum${ c }_${ r } * share;
        }
# endfor
# if part
        if lane == 0u {
            store_mass(row${ r }.query, section, top${ of[r] }, totals${ of[r] });
        }
# endif
    }
# endfor
# endif
}
