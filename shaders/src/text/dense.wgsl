// Fully connected layer over rows of weights in panels: y = act(norm(x) * w^T + bias) + residual, for any scheme of weights.
//
// A workgroup owns a panel of 32 rows, or half of one, and TM tokens. The root mean square of a normalized input is summed up
// beside the products, which it scales at the end, so that no pass of its own is needed. With `glu` the upper 16 rows of a
// panel gate: y = act(gate) * up, the gates being the lower 16.
//
// portable: 32 rows by 8 slices of the columns, added up in workgroup memory.
// subgroupN: a lane owns R rows; each lane loads other values of the input, which are then broadcast from its registers.
//@ axis path = portable(S=8) | subgroup4(SG=4, R=4) | subgroup8(SG=8, R=4)
//@ axis tokens = one(TM=1) | few(TM=4)
//@ axis scheme = f32 | f16 | bf16 | q8_0 | q4_0 | q4_1 | q5_0 | q5_1 | q2_k | q3_k | q4_k | q5_k | q6_k | iq4_nl | iq4_xs | mxfp4
# import "panel" as panel
# import "unit" as unit
# set subgroups = path != "portable"
# set quantized = scheme not in ["f32", "f16", "bf16"]
# set offset = scheme in ["q4_1", "q5_1", "q2_k", "q4_k", "q5_k"]
# set split = scheme in ["q2_k", "q3_k", "q6_k"]
# set wide = scheme in ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"]
# set next = 2 + panel.tensors(scheme) | int

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
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, k]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
${ panel.bindings(scheme, 2) }
// [k]; bound to x when there is none
@group(0) @binding(${ next }) var<storage, read> gain: array<vec4<f32>>;
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

# if subgroups
# set spans = 16 // (R // 2 * SG)
@compute @workgroup_size(${ SG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let panel = group.x / ${ spans }u;
    let span = group.x % ${ spans }u * ${ R // 2 * SG }u;
# for r in range(R)
    let row${ r } = ${ r // (R // 2) * 16 + r % (R // 2) * SG }u + span + lane;
# endfor
# else
var<workgroup> partial: array<f32, ${ S * 32 * TM }>;
var<workgroup> squares: array<f32, ${ S * TM }>;

@compute @workgroup_size(32, ${ S })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let panel = group.x;
    let row0 = local.x;
# endif
# set rows = R if subgroups else 1
# set own = 8 // SG if subgroups else 8
    let token0 = group.y * ${ TM }u;
    let k4 = params.k4;
    let normalize = (params.flags & 1u) != 0u;
# for t in range(TM)
    let x${ t } = min(token0 + ${ t }u, params.m - 1u) * k4;
    var square${ t } = 0.0;
# for r in range(rows)
    var sum${ r }_${ t } = vec4<f32>();
# endfor
# endfor
# if subgroups
    for (var b = 0u; b < params.blocks; b++) {
# else
    for (var b = local.y; b < params.blocks; b += ${ S }u) {
# endif
        let block = panel * params.blocks + b;
# if wide
        let wide = panel * ((params.blocks + 7u) / 8u) + b / 8u;
        let part = b % 8u;
# endif
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
# for j in range(8)
# if subgroups
        let v${ t }_${ j } = subgroupBroadcast(a${ t }_${ j // SG }, ${ j % SG }u);
# else
        let v${ t }_${ j } = a${ t }_${ j };
# endif
# endfor
# if offset
        let total${ t } = (v${ t }_0 + v${ t }_1) + (v${ t }_2 + v${ t }_3);
        let rest${ t } = (v${ t }_4 + v${ t }_5) + (v${ t }_6 + v${ t }_7);
# endif
# endfor
# for r in range(rows)
${ panel.loads(scheme, "w" ~ r, "block", "row" ~ r) }
# if quantized
${ panel.scale(scheme, "d" ~ r, "block", "wide", "part", "row" ~ r) }
# endif
# for t in range(TM)
# if quantized
        var part${ r }_${ t } = w${ r }_0 * v${ t }_0;
# for j in range(1, 4 if split else 8)
        part${ r }_${ t } += w${ r }_${ j } * v${ t }_${ j };
# endfor
        sum${ r }_${ t } += d${ r }.x * part${ r }_${ t };
# if split
        var rest${ r }_${ t } = w${ r }_4 * v${ t }_4;
# for j in range(5, 8)
        rest${ r }_${ t } += w${ r }_${ j } * v${ t }_${ j };
# endfor
        sum${ r }_${ t } += d${ r }_rest.x * rest${ r }_${ t };
# endif
# if offset
# if split
        sum${ r }_${ t } += d${ r }.y * total${ t } + d${ r }_rest.y * rest${ t };
# else
        sum${ r }_${ t } += d${ r }.y * (total${ t } + rest${ t });
# endif
# endif
# else
# for j in range(8)
        sum${ r }_${ t } += w${ r }_${ j } * v${ t }_${ j };
# endfor
# endif
# endfor
# endfor
    }
# if subgroups
# for t in range(TM)
    var factor${ t } = 1.0;
    if normalize {
        factor${ t } = inverseSqrt(subgroupAdd(square${ t }) / f32(params.columns) + params.epsilon);
    }
# for r in range(R)
    let total${ r }_${ t } = factor${ t } * ((sum${ r }_${ t }.x + sum${ r }_${ t }.y) + (sum${ r }_${ t }.z + sum${ r }_${ t }.w));
# endfor
# endfor
    if (params.flags & 8u) != 0u {
# for t in range(TM)
# for r in range(R // 2)
        finish_pair(token0 + ${ t }u, panel * 16u + row${ r }, panel * 32u + row${ r }, total${ r }_${ t }, total${ r + R // 2 }_${ t });
# endfor
# endfor
    } else {
# for t in range(TM)
# for r in range(R)
        finish(token0 + ${ t }u, panel * 32u + row${ r }, total${ r }_${ t });
# endfor
# endfor
    }
# else
# for t in range(TM)
    partial[(${ t }u * ${ S }u + local.y) * 32u + local.x] = (sum0_${ t }.x + sum0_${ t }.y) + (sum0_${ t }.z + sum0_${ t }.w);
    if local.x == 0u {
        squares[${ t }u * ${ S }u + local.y] = square${ t };
    }
# endfor
    workgroupBarrier();
    // Token t is finished by the invocations (row, t).
    let t = local.y;
    if t < ${ TM }u {
        var factor = 1.0;
        if normalize {
            var square = 0.0;
            for (var slice = 0u; slice < ${ S }u; slice++) {
                square += squares[t * ${ S }u + slice];
            }
            factor = inverseSqrt(square / f32(params.columns) + params.epsilon);
        }
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
}
