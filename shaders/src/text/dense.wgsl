// Fully connected layer over rows of weights in panels: y = act(norm(x) * w^T + bias) + residual, for any scheme of weights.
//
// A workgroup owns a panel of 32 rows, or half of one, and TM tokens. The root mean square of a normalized input is summed up
// beside the products, which it scales at the end, so that no pass of its own is needed. With `glu` the upper 16 rows of a
// panel gate: y = act(gate) * up, the gates being the lower 16.
//
// portable: 32 rows by 8 slices of the columns, added up in workgroup memory.
// tiled: 32 rows by 32 tokens, the numbers of a block of columns written out in workgroup memory once for all of them.
// sliced, wide: as tiled, in four slices of the columns beside each other, and 64 rows by 64 tokens. Tiles of bytes are sliced too.
// pairs, quads: eight lanes own 2 rows each of half a panel, or 4 of a whole one, beside S slices of the columns.
// subgroupN: a lane owns R rows; each lane loads other values of the input, which are then broadcast from its registers.
// alike: as these where there are no subgroups; all eight lanes load the same values of the input, each for its R rows.
// subgroups: subgroups of any size share the rows, and their lanes the columns.
//
// x = i8: the input is bytes with a scale for each block of 32 columns, and products are those of four bytes at a time.
// x = f16: inputs and numbers of weights are multiplied in 16-bit floats, and added up in them over at most eight products.
//@ axis path = portable(S=8) | tiled | sliced | wide(ROWS=64) | pairs(R=2, S=32, ROWS=16) | quads(R=4, S=16, ROWS=32) | subgroup4(SG=4, R=4) | subgroup8(SG=8, R=4) | alike(R=4, ROWS=32) | subgroups(SG=1)
//@ axis tokens = one(TM=1) | few(TM=4) | several(TM=8) | many(TM=32) | more(TM=64)
//@ axis x = f32 | i8 | f16
//@ only path=portable, tokens=one|few
//@ only path=tiled, tokens=many
//@ only path=sliced, tokens=many
//@ only path=wide, tokens=more
//@ only path=pairs, tokens=one
//@ only path=quads, tokens=few|several
//@ only path=subgroup4, tokens=one|few
//@ only path=subgroup8, tokens=one|few|several
//@ only path=alike, tokens=one|few
//@ only path=subgroups, tokens=one
//@ only path=sliced, x=f32
//@ only path=wide, x=f32|i8
//@ only path=pairs, x=f32|i8
//@ only path=quads, x=f32
//@ only path=subgroup4, x=f32|i8
//@ only path=subgroup8, x=f32|i8
//@ only path=alike, x=f32
//@ only path=subgroups, x=f32
//@ only tokens=few, x=f32|i8
//@ only scheme=f32, x=f32
//@ only scheme=f16, x=f32
//@ only scheme=bf16, x=f32
//@ skip x=i8, tokens=one, path=subgroup4|subgroup8
//@ skip path=subgroup8, tokens=several, x=i8
//@ skip path=subgroup8, tokens=several, scheme=q8_0|q4_0|q4_1|q5_0|q5_1|q2_k|q3_k|q4_k|q5_k|q6_k|iq4_nl|iq4_xs|mxfp4
//@ native path=sliced|wide|pairs|quads
//@ axis scheme = f32 | f16 | bf16 | q8_0 | q4_0 | q4_1 | q5_0 | q5_1 | q2_k | q3_k | q4_k | q5_k | q6_k | iq4_nl | iq4_xs | mxfp4
# import "panel" as panel
# import "unit" as unit
# import "dense_f16" as dense_f16
# import "dense_subgroups" as dense_subgroups
# import "dense_rows" as dense_rows
# import "dense_tiles" as dense_tiles
# set tiled = path == "tiled" and x != "i8"
# set whole = x == "i8" and path in ["tiled", "wide"]
# set beside = path in ["pairs", "quads"]
# set any = path == "subgroups"
# set subgroups = path in ["subgroup4", "subgroup8"]
# set alike = path == "alike"
# set lanes = subgroups or alike
# set quantized = scheme not in ["f32", "f16", "bf16"]
# set packed = x == "i8"
# set halved = x == "f16"
# set alone = packed and TM == 1
# set spread = quantized and scheme not in ["q8_0", "iq4_nl", "iq4_xs", "mxfp4"]
# set offset = scheme in ["q4_1", "q5_1", "q2_k", "q4_k", "q5_k"] if packed or halved else spread
# set split = scheme in ["q2_k", "q3_k", "q6_k"]
# set wide = scheme in ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"]
# set next = 2 + panel.tensors(scheme) | int
# if halved
enable f16;
# endif

struct Params {
    // tokens
    m: u32,
    // columns of x
    columns: u32,
    // columns of x, and of y, in fours
    k4: u32,
    n4: u32,
    // blocks of 32 columns
    blocks: u32,
    // 1: x is divided by its root mean square and multiplied by gain; 2: a bias is added; 4: a residual is added; 8: glu
    flags: u32,
    // 0: none, 1: SiLU, 2: GELU by tanh, 3: GELU by the error function, 4: ReLU
    activation: u32,
    // added to the mean square
    epsilon: f32,
    // results are bounded as cap * tanh(v / cap); not when 0
    cap: f32,
    // the first workgroup in x, where a launch is of some of them
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
# if packed
// [m / 4, blocks, 9]: a word of each of four tokens for every four columns of a block, then the tokens' scales
@group(0) @binding(1) var<storage, read> x: array<<% if alone %>u32<% else %>vec4<u32><% endif %>>;
${ panel.bindings(scheme, 2, subgroups, packed) }
// x, word by word
@group(0) @binding(${ next }) var<storage, read> factors: array<f32>;
# else
// [m, k]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
${ panel.bindings(scheme, 2, lanes) }
// [k]; bound to x when there is none
@group(0) @binding(${ next }) var<storage, read> gain: array<vec4<f32>>;
# endif
// [n]; bound to x when there is none
@group(0) @binding(${ next + 1 }) var<storage, read> bias: array<f32>;
// [m, n]; bound to x when there is none
@group(0) @binding(${ next + 2 }) var<storage, read> residual: array<f32>;
// [m, n]
@group(0) @binding(${ next + 3 }) var<storage, read_write> y: array<f32>;

${ unit.functions() }

// Bias, activation, residual and store of row `n` of the weights.
fn finish(token: u32, n: u32, sum: f32) {
    if token < params.m && n < params.n4 * 4u {
        var v = sum;
        if (params.flags & 2u) != 0u {
            v += bias[n];
        }
        v = activate(v);
        if params.cap > 0.0 {
            v = params.cap * tanh(clamp(v / params.cap, -20.0, 20.0));
        }
        if (params.flags & 4u) != 0u {
            v += residual[token * params.n4 * 4u + n];
        }
        y[token * params.n4 * 4u + n] = v;
    }
}

// A gated unit: column `n` of the result, from rows `row` and `row + 16` of the weights.
fn finish_pair(token: u32, n: u32, row: u32, gate: f32, up: f32) {
    if token < params.m && n < params.n4 * 4u {
        var shift = vec2<f32>();
        if (params.flags & 2u) != 0u {
            shift = vec2<f32>(bias[row], bias[row + 16u]);
        }
        y[token * params.n4 * 4u + n] = activate(gate + shift.x) * (up + shift.y);
    }
}

# if halved
${ dense_f16.input() }

# endif
# if any
${ dense_subgroups.body(scheme, quantized, wide, split, offset) }
# elif whole
${ dense_tiles.whole(scheme, TM, TM // 32, wide, split, offset) }
# elif path in ["sliced", "wide"]
${ dense_tiles.floats(scheme, TM // 32, wide, split, spread, quantized) }
# elif beside
${ dense_rows.body(scheme, TM, R, S, packed, quantized, wide, split, offset) }
# elif tiled and halved
# set R = 4
${ dense_f16.tile(scheme, TM, wide, split, offset) }
# elif tiled
# set R = 4
# set own = 4
// [8, 32] and [8, 33]: four columns of each row of weights, and of each token; the padding keeps those stored together in other banks
var<workgroup> rows: array<vec4<f32>, 256>;
var<workgroup> tokens: array<vec4<f32>, 264>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let panel = params.first + group.x;
    let row0 = local.x;
    let token0 = group.y * ${ TM }u + local.y;
    let at = local.y * 8u + local.x;
    let row = at % 32u;
    let half = at / 32u;
    let k4 = params.k4;
    let normalize = (params.flags & 1u) != 0u;
# for t in range(own)
    var square${ t } = 0.0;
# for r in range(R)
    var sum${ r }_${ t } = 0.0;
# endfor
# endfor
    for (var b = 0u; b < params.blocks; b++) {
        let block = panel * params.blocks + b;
# if wide
        let wide = panel * ((params.blocks + 7u) / 8u) + b / 8u;
        let part = b % 8u;
# endif
${ panel.half_loads(scheme, "w", "block", "half", "row") }
# if quantized
${ panel.scale(scheme, "d", "block", "wide", "part", "row") }
        let pair = <% if split %>select(d, d_rest, half == 1u)<% else %>d<% endif %>;
# endif
# for q in range(4)
        let four${ q } = min(b * 8u + half * 4u + ${ q }u, k4 - 1u);
        var w${ q } = ${ panel.four(scheme, "w", q) }<% if spread or scheme == "q8_0" %> * ${ panel.spread(scheme) }<% endif %>;
# if quantized
        w${ q } = pair.x * w${ q } + pair.y;
# endif
        if normalize {
            w${ q } *= gain[four${ q }];
        }
        rows[(half * 4u + ${ q }u) * 32u + row] = w${ q };
        // Of the tokens as many, eight neighbouring invocations a token.
        let own${ q } = min(group.y * ${ TM }u + ${ 8 * q }u + local.y, params.m - 1u);
        let place${ q } = b * 8u + local.x;
        tokens[local.x * 33u + ${ 8 * q }u + local.y] = select(vec4<f32>(), x[own${ q } * k4 + min(place${ q }, k4 - 1u)], place${ q } < k4);
# endfor
        workgroupBarrier();
        for (var c = 0u; c < 8u; c++) {
# for r in range(R)
            let w_${ r } = rows[c * 32u + ${ 8 * r }u + local.x];
# endfor
# for t in range(own)
            let v_${ t } = tokens[c * 33u + ${ 8 * t }u + local.y];
# for r in range(R)
            sum${ r }_${ t } += dot(w_${ r }, v_${ t });
# endfor
# endfor
            if normalize {
# for t in range(own)
                square${ t } += dot(v_${ t }, v_${ t });
# endfor
            }
        }
        workgroupBarrier();
    }
# for t in range(own)
    var scale${ t } = 1.0;
    if normalize {
        scale${ t } = inverseSqrt(square${ t } / f32(params.columns) + params.epsilon);
    }
# endfor
# else
# if subgroups
# set spans = 8 // SG
@compute @workgroup_size(${ SG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let panel = (params.first + group.x) / ${ spans }u;
    let row0 = (params.first + group.x) % ${ spans }u * ${ SG }u + lane;
# elif alike
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let panel = params.first + group.x;
    let row0 = local.x;
# else
var<workgroup> partial: array<f32, ${ S * 32 * TM }>;
# if not packed
var<workgroup> squares: array<f32, ${ S * TM }>;
# endif
# if halved
var<workgroup> peaks: array<f32, 256>;
# endif

@compute @workgroup_size(32, ${ S })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let panel = params.first + group.x;
    let row0 = local.x;
# endif
# set rows = R if lanes else 1
# set sums = ["part", "rest"] if split else ["part"]
# set own = 8 // SG if subgroups else 8
    let token0 = group.y * ${ TM }u;
# if not packed
    let normalize = (params.flags & 1u) != 0u;
# endif
# if not packed and not halved
    let k4 = params.k4;
# endif
# if halved
${ dense_f16.peak() }
# endif
# for t in range(TM)
# if not packed and not halved
    let x${ t } = min(token0 + ${ t }u, params.m - 1u) * k4;
# endif
# if not packed
    var square${ t } = 0.0;
# endif
# for r in range(rows)
    var sum${ r }_${ t } = 0.0;
# endfor
# endfor
# if lanes
    for (var b = 0u; b < params.blocks; b++) {
# else
    for (var b = local.y; b < params.blocks; b += ${ S }u) {
# endif
        let block = panel * params.blocks + b;
# if wide
        let wide = panel * ((params.blocks + 7u) / 8u) + b / 8u;
        let part = b % 8u;
# endif
# if halved
${ dense_f16.block(scheme, split, offset) }
# else
# if packed
        let start = (group.y<% if alone %> / 4u<% endif %> * params.blocks + b) * 9u;
# for p in range(own)
        let a${ p } = x[<% if alone %>4u * (<% endif %>start + <% if subgroups %>${ p * SG }u + lane<% else %>${ p }u<% endif %><% if alone %>) + (token0 & 3u)<% endif %>];
# endfor
# if subgroups
        let own = factors[start * 4u + 32u + (lane & 3u)] * ${ panel.fraction(scheme) };
# endif
# for t in range(TM)
# if subgroups
        let factor${ t } = subgroupBroadcast(own, ${ t }u);
# else
        let factor${ t } = factors[start * 4u + <% if alone %>32u + (token0 & 3u)<% else %>${ 32 + t }u<% endif %>] * ${ panel.fraction(scheme) };
# endif
# for j in range(8)
# if subgroups
        let v${ t }_${ j } = subgroupBroadcast(a${ j // SG }.${ "xyzw"[t] }, ${ j % SG }u);
# else
        let v${ t }_${ j } = a${ j }<% if not alone %>.${ "xyzw"[t] }<% endif %>;
# endif
# endfor
# if offset
# for (name, first, last) in [("total", 0, 4), ("rest", 4, 8)]
        var ${ name }${ t } = 0;
# for j in range(first, last)
        ${ name }${ t } += dot4I8Packed(v${ t }_${ j }, 0x01010101u);
# endfor
# endfor
# endif
# endfor
# else
# for p in range(own)
# if subgroups
        let at${ p } = b * 8u + ${ p * SG }u + lane;
# else
        let at${ p } = b * 8u + ${ p }u;
# endif
        let inside${ p } = at${ p } < k4;
        let place${ p } = min(at${ p }, k4 - 1u);
# for t in range(TM)
        var a${ t }_${ p } = select(vec4<f32>(), x[x${ t } + place${ p }], inside${ p });
# endfor
# endfor
        if normalize {
# for p in range(own)
            let gain${ p } = gain[place${ p }];
# for t in range(TM)
            square${ t } += dot(a${ t }_${ p }, a${ t }_${ p });
            a${ t }_${ p } *= gain${ p };
# endfor
# endfor
        }
# for t in range(TM)
# for p in range(own)
# if offset
        let four${ t }_${ p } = (a${ t }_${ p }.x + a${ t }_${ p }.y) + (a${ t }_${ p }.z + a${ t }_${ p }.w);
# endif
# if spread or scheme == "q8_0"
        a${ t }_${ p } *= ${ panel.spread(scheme) };
# endif
# endfor
# for j in range(8)
# if subgroups
        let v${ t }_${ j } = subgroupBroadcast(a${ t }_${ j // SG }, ${ j % SG }u);
# else
        let v${ t }_${ j } = a${ t }_${ j };
# endif
# if offset
# if subgroups
        let s${ t }_${ j } = subgroupBroadcast(four${ t }_${ j // SG }, ${ j % SG }u);
# else
        let s${ t }_${ j } = four${ t }_${ j };
# endif
# endif
# endfor
# if offset
        let total${ t } = (s${ t }_0 + s${ t }_1) + (s${ t }_2 + s${ t }_3);
        let rest${ t } = (s${ t }_4 + s${ t }_5) + (s${ t }_6 + s${ t }_7);
# endif
# endfor
# endif
# for r in range(rows)
# for t in range(TM)
# for name in sums
        var ${ name }${ r }_${ t } = 0<% if not packed %>.0<% endif %>;
# endfor
# endfor
# endfor
<#- Floats are used row by row as they are loaded; of quantized weights all rows' are. -#>
# set groups = [range(rows)] if quantized else range(rows) | batch(1)
# for together in groups
# for r in together
${ panel.loads(scheme, "w" ~ r, "block", "(row0 + " ~ 8 * r ~ "u)") }
# endfor
# for j in range(8)
# set name = "rest" if split and j >= 4 else "part"
# for r in together
# if packed
        let w${ r }_${ j } = ${ panel.bytes(scheme, "w" ~ r, j) };
# else
        let w${ r }_${ j } = ${ panel.four(scheme, "w" ~ r, j) };
# endif
# endfor
# for t in range(TM)
# for r in together
        ${ name }${ r }_${ t } += <% if packed %>dot4I8Packed<% else %>dot<% endif %>(w${ r }_${ j }, v${ t }_${ j });
# endfor
# endfor
# endfor
# endfor
# if quantized
# if lanes
${ panel.scales(scheme, "d", "block", "wide", "part", "row0") }
# else
${ panel.scale(scheme, "d0", "block", "wide", "part", "row0") }
# endif
# endif
# for t in range(TM)
# for r in range(rows)
# if packed
        sum${ r }_${ t } += factor${ t } * (d${ r }.x * f32(part${ r }_${ t })
            <%- if split %> + d${ r }_rest.x * f32(rest${ r }_${ t })<% endif %>
            <%- if offset and split %> + d${ r }.y * f32(total${ t }) + d${ r }_rest.y * f32(rest${ t })<% elif offset %> + d${ r }.y * f32(total${ t } + rest${ t })<% endif %>);
# elif quantized
        sum${ r }_${ t } += d${ r }.x * part${ r }_${ t }
            <%- if split %> + d${ r }_rest.x * rest${ r }_${ t }<% endif %>
            <%- if offset and split %> + (d${ r }.y * total${ t } + d${ r }_rest.y * rest${ t })<% elif offset %> + d${ r }.y * (total${ t } + rest${ t })<% endif %>;
# else
        sum${ r }_${ t } += part${ r }_${ t };
# endif
# endfor
# endfor
# endif
    }
# if lanes
# for t in range(TM)
# if packed
    let scale${ t } = 1.0;
# else
    var scale${ t } = 1.0;
    if normalize {
        scale${ t } = inverseSqrt(<% if alike %>square${ t }<% else %>subgroupAdd(square${ t })<% endif %> / f32(params.columns) + params.epsilon);
    }
# endif
# endfor
# else
# for t in range(TM)
    partial[(${ t }u * ${ S }u + local.y) * 32u + local.x] = sum0_${ t };
# if not packed
    if local.x == 0u {
        squares[${ t }u * ${ S }u + local.y] = square${ t };
    }
# endif
# endfor
    workgroupBarrier();
    // Token t is finished by the invocations (row, t).
    let t = local.y;
    if t < ${ TM }u {
        var factor = <% if halved %>room.y<% else %>1.0<% endif %>;
# if not packed
        if normalize {
            var square = 0.0;
            for (var slice = 0u; slice < ${ S }u; slice++) {
                square += squares[t * ${ S }u + slice];
            }
            factor <% if halved %>*<% endif %>= inverseSqrt(square / f32(params.columns) + params.epsilon);
        }
# endif
        var sum = 0.0;
        var other = 0.0;
        for (var slice = 0u; slice < ${ S }u; slice++) {
            sum += partial[(t * ${ S }u + slice) * 32u + local.x];
            other += partial[(t * ${ S }u + slice) * 32u + (local.x ^ 16u)];
        }
        if (params.flags & 8u) == 0u {
            finish(token0 + t, panel * 32u + local.x, factor * sum);
        } else if local.x < 16u {
            finish_pair(token0 + t, panel * 16u + local.x, panel * 32u + local.x, factor * sum, factor * other);
        }
    }
# endif
# endif
<#- What an invocation of all paths but `portable` ends with: R rows 8 apart, of tokens that are 1 or 8 apart. -#>
# if tiled or lanes
# set (own, apart) = (4, 8) if tiled else (TM, 1)
    if (params.flags & 8u) != 0u {
# for t in range(own)
# for r in range(R // 2)
        finish_pair(token0 + ${ apart * t }u, panel * 16u + row0 + ${ 8 * r }u, panel * 32u + row0 + ${ 8 * r }u, scale${ t } * sum${ r }_${ t }, scale${ t } * sum${ r + R // 2 }_${ t });
# endfor
# endfor
    } else {
# for t in range(own)
# for r in range(R)
        finish(token0 + ${ apart * t }u, panel * 32u + row0 + ${ 8 * r }u, scale${ t } * sum${ r }_${ t });
# endfor
# endfor
    }
# endif
}
