// The experts' matrices: for each token only those chosen for it are read, from a stack of the matrices of all experts in panels.
//
// Gated units: y[choice] = act(gate * norm(x)) * (up * norm(x)), a row for each expert chosen for a token; gates or units alone, where
// they are stored unlike each other: y[choice] = act(w * norm(x)). The way back:
// y[token] = residual + the sum over the token's choices, in their order, of share * (w * x[choice]). An expert outside
// `first .. first + count` lies in another stack and counts as zero.
//
// A workgroup owns a panel of 32 rows of one expert, or of all those chosen for a token one after another, and a row of y.
//
// portable: 32 rows of weights by 8 slices of the columns, added up in workgroup memory.
// subgroup8: a lane owns R rows; each lane loads other values of the input, which are then broadcast from its registers.
//
// x = i8: the input is bytes with a scale for each block of 32 columns, normalized beforehand, and products are those of four bytes at a time.
//@ axis path = portable | subgroup8(SG=8, R=4)
//@ axis x = f32 | i8
//@ only path=subgroup8, x=f32
//@ native path=subgroup8
//@ skip x=i8, scheme=f32
//@ skip x=i8, scheme=f16
//@ skip x=i8, scheme=bf16
//@ axis scheme = f32 | f16 | bf16 | q8_0 | q4_0 | q4_1 | q5_0 | q5_1 | q2_k | q3_k | q4_k | q5_k | q6_k | iq4_nl | iq4_xs | mxfp4
# import "panel" as panel
# import "unit" as unit
# set lanes = path == "subgroup8"
# set quantized = scheme not in ["f32", "f16", "bf16"]
# set packed = x == "i8"
# set offset = scheme in ["q4_1", "q5_1", "q2_k", "q4_k", "q5_k"] if packed else quantized and scheme not in ["q8_0", "iq4_nl", "iq4_xs", "mxfp4"]
# set split = scheme in ["q2_k", "q3_k", "q6_k"]
# set wide = scheme in ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"]
# set next = 2 + panel.tensors(scheme) | int

struct Params {
    // 1: gated units, 2: units alone, 0: the way back
    inward: u32,
    // experts of a token, and those in fours
    chosen: u32,
    c4: u32,
    // experts in the stack: the number of the first, and how many
    first: u32,
    count: u32,
    // panels of an expert
    panels: u32,
    // columns of x
    columns: u32,
    // columns of x, and of y, in fours
    k4: u32,
    n4: u32,
    // blocks of 32 columns
    blocks: u32,
    // 0: none, 1: SiLU, 2: GELU by tanh, 3: GELU by the error function
    activation: u32,
    // added to the mean square
    epsilon: f32,
    // the first workgroup in x, where a launch is of some of them
    first_group: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
# if packed
// [m / 4, blocks, 9, 4] for units, else [m * chosen / 4, blocks, 9, 4]: of four rows side by side a word for every four columns of a
// block, then its scale
@group(0) @binding(1) var<storage, read> x: array<u32>;
# else
// [m, k] for units, else [m, chosen, k]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
# endif
${ panel.bindings(scheme, 2, lanes, packed) }
// [m, chosen], without padding
@group(0) @binding(${ next }) var<storage, read> chosen: array<u32>;
// <% if packed %>bound to x<% else %>gain [k] of the norm<% endif %> for units, else shares [m, chosen]
@group(0) @binding(${ next + 1 }) var<storage, read> factors: array<vec4<f32>>;
// [m, n]; bound to x for units
@group(0) @binding(${ next + 2 }) var<storage, read> residual: array<f32>;
// [m, chosen, n] for units, else [m, n]
@group(0) @binding(${ next + 3 }) var<storage, read_write> y: array<f32>;

${ unit.functions() }

# if lanes
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let panel_of_expert = params.first_group + group.x;
    let k4 = params.k4;
    let inward = params.inward != 0u;
    let terms = select(params.chosen, 1u, inward);
    var square = 0.0;
# for r in range(R)
    var total${ r } = 0.0;
# endfor
    for (var term = 0u; term < terms; term++) {
        let choice = group.y * terms + term;
        // An expert below the first wraps to a large number.
        let expert = chosen[choice] - params.first;
        let blocks = select(0u, params.blocks, expert < params.count);
        let home = min(expert, params.count - 1u) * params.panels + panel_of_expert;
        let start = select(choice, choice / params.chosen, inward) * k4;
# for r in range(R)
        var sum${ r } = 0.0;
# endfor
        for (var b = 0u; b < blocks; b++) {
            let block = home * params.blocks + b;
# if wide
            let wide = home * ((params.blocks + 7u) / 8u) + b / 8u;
            let part = b % 8u;
# endif
            let place = min(b * 8u + lane, k4 - 1u);
            var own = select(vec4<f32>(), x[start + place], b * 8u + lane < k4);
            if inward {
                square += dot(own, own);
                own *= factors[place];
            }
# if offset
            let four = (own.x + own.y) + (own.z + own.w);
# endif
# if offset or scheme == "q8_0"
            own *= ${ panel.spread(scheme) };
# endif
# for j in range(8)
            let v_${ j } = subgroupBroadcast(own, ${ j }u);
# if offset
            let s_${ j } = subgroupBroadcast(four, ${ j }u);
# endif
# endfor
# if offset
            let lower = (s_0 + s_1) + (s_2 + s_3);
            let upper = (s_4 + s_5) + (s_6 + s_7);
# endif
# for r in range(R)
            var part${ r } = 0.0;
            var rest${ r } = 0.0;
# endfor
<#- Floats are used row by row as they are loaded; of quantized weights all rows' are. -#>
# set groups = [range(R)] if quantized else range(R) | batch(1)
# for together in groups
# for r in together
${ panel.loads(scheme, "w" ~ r, "block", "(lane + " ~ 8 * r ~ "u)") }
# endfor
# for j in range(8)
# set name = "rest" if j >= 4 else "part"
# for r in together
            ${ name }${ r } += dot(${ panel.four(scheme, "w" ~ r, j) }, v_${ j });
# endfor
# endfor
# endfor
# if quantized
${ panel.scales(scheme, "d", "block", "wide", "part", "lane") }
# endif
# for r in range(R)
# if not quantized
            sum${ r } += part${ r } + rest${ r };
# elif split
            sum${ r } += (d${ r }.x * part${ r } + d${ r }_rest.x * rest${ r }) + (d${ r }.y * lower + d${ r }_rest.y * upper);
# elif offset
            sum${ r } += d${ r }.x * (part${ r } + rest${ r }) + d${ r }.y * (lower + upper);
# else
            sum${ r } += d${ r }.x * (part${ r } + rest${ r });
# endif
# endfor
        }
        let shares = factors[select(choice / params.chosen * params.c4 + term / 4u, 0u, inward)];
        let share = select(shares[term % 4u], 1.0, inward);
# for r in range(R)
        total${ r } += share * sum${ r };
# endfor
    }
    let width = params.n4 * 4u;
    if inward {
        let factor = inverseSqrt(subgroupAdd(square) / f32(params.columns) + params.epsilon);
        let gated = params.inward == 1u;
        let rows = select(32u, 16u, gated);
# for r in range(R)
        let n${ r } = panel_of_expert * rows + lane + ${ 8 * r }u;
        if n${ r } < width && ${ 8 * r }u < rows {
# if r < 2
            y[group.y * width + n${ r }] = activate(factor * total${ r }) * select(1.0, factor * total${ r + 2 }, gated);
# else
            y[group.y * width + n${ r }] = activate(factor * total${ r });
# endif
        }
# endfor
    } else {
# for r in range(R)
        let n${ r } = panel_of_expert * 32u + lane + ${ 8 * r }u;
        if n${ r } < width {
            y[group.y * width + n${ r }] = residual[group.y * width + n${ r }] + total${ r };
        }
# endfor
    }
}
# else
var<workgroup> partial: array<f32, 256>;
# if not packed
var<workgroup> squares: array<f32, 8>;
# endif

@compute @workgroup_size(32, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let row0 = local.x;
    let panel_of_expert = params.first_group + group.x;
# if not packed
    let k4 = params.k4;
# endif
    let inward = params.inward != 0u;
    let terms = select(params.chosen, 1u, inward);
# if not packed
    var square = 0.0;
# endif
    var total = 0.0;
    for (var term = 0u; term < terms; term++) {
        let choice = group.y * terms + term;
        // An expert below the first wraps to a large number.
        let expert = chosen[choice] - params.first;
        if expert < params.count {
            let home = expert * params.panels + panel_of_expert;
# if packed
            let token = select(choice, choice / params.chosen, inward);
# else
            let start = select(choice, choice / params.chosen, inward) * k4;
# endif
            var sum0 = 0.0;
            for (var b = local.y; b < params.blocks; b += 8u) {
                let block = home * params.blocks + b;
# if wide
                let wide = home * ((params.blocks + 7u) / 8u) + b / 8u;
                let part = b % 8u;
# endif
# if packed
                let start = (token / 4u * params.blocks + b) * 36u + (token & 3u);
                let factor = bitcast<f32>(x[start + 32u]) * ${ panel.fraction(scheme) };
# for j in range(8)
                let v_${ j } = x[start + ${ 4 * j }u];
# endfor
# if offset
# for (name, first) in [("lower", 0), ("upper", 4)]
                var ${ name } = 0;
# for j in range(first, first + 4)
                ${ name } += dot4I8Packed(v_${ j }, 0x01010101u);
# endfor
# endfor
# endif
${ panel.loads(scheme, "w", "block", "row0") }
# for (name, first) in [("part0", 0), ("rest0", 4)]
                var ${ name } = 0;
# for j in range(first, first + 4)
                ${ name } += dot4I8Packed(${ panel.bytes(scheme, "w", j) }, v_${ j });
# endfor
# endfor
${ panel.scale(scheme, "d", "block", "wide", "part", "row0") }
# if split
                sum0 += factor * ((d.x * f32(part0) + d_rest.x * f32(rest0))<% if offset %> + (d.y * f32(lower) + d_rest.y * f32(upper))<% endif %>);
# else
                sum0 += factor * (d.x * f32(part0 + rest0)<% if offset %> + d.y * f32(lower + upper)<% endif %>);
# endif
# else
# for j in range(8)
                let place${ j } = min(b * 8u + ${ j }u, k4 - 1u);
                var v_${ j } = select(vec4<f32>(), x[start + place${ j }], b * 8u + ${ j }u < k4);
# endfor
                if inward {
# for j in range(8)
                    square += dot(v_${ j }, v_${ j });
                    v_${ j } *= factors[place${ j }];
# endfor
                }
# if offset
                let sum_lower = (v_0 + v_1) + (v_2 + v_3);
                let sum_upper = (v_4 + v_5) + (v_6 + v_7);
                let lower = (sum_lower.x + sum_lower.y) + (sum_lower.z + sum_lower.w);
                let upper = (sum_upper.x + sum_upper.y) + (sum_upper.z + sum_upper.w);
# endif
# if offset or scheme == "q8_0"
# for j in range(8)
                v_${ j } *= ${ panel.spread(scheme) };
# endfor
# endif
${ panel.loads(scheme, "w", "block", "row0") }
# for (name, first) in [("part0", 0), ("rest0", 4)]
                var ${ name } = 0.0;
# for j in range(first, first + 4)
                ${ name } += dot(${ panel.four(scheme, "w", j) }, v_${ j });
# endfor
# endfor
# if quantized
${ panel.scale(scheme, "d", "block", "wide", "part", "row0") }
# if split
                sum0 += (d.x * part0 + d_rest.x * rest0) + (d.y * lower + d_rest.y * upper);
# elif offset
                sum0 += d.x * (part0 + rest0) + d.y * (lower + upper);
# else
                sum0 += d.x * (part0 + rest0);
# endif
# else
                sum0 += part0 + rest0;
# endif
# endif
            }
            if inward {
                total = sum0;
            } else {
                total += factors[choice / params.chosen * params.c4 + term / 4u][term % 4u] * sum0;
            }
        }
    }
    partial[local.y * 32u + local.x] = total;
# if not packed
    if local.x == 0u {
        squares[local.y] = square;
    }
# endif
    workgroupBarrier();
    if local.y == 0u {
        var sum = 0.0;
        var other = 0.0;
# if not packed
        var all = 0.0;
# endif
        for (var slice = 0u; slice < 8u; slice++) {
            sum += partial[slice * 32u + local.x];
            other += partial[slice * 32u + (local.x ^ 16u)];
# if not packed
            all += squares[slice];
# endif
        }
        let width = params.n4 * 4u;
        if inward {
            let gated = params.inward == 1u;
            let rows = select(32u, 16u, gated);
            let n = panel_of_expert * rows + local.x;
# if packed
            let factor = 1.0;
# else
            let factor = inverseSqrt(all / f32(params.columns) + params.epsilon);
# endif
            if local.x < rows && n < width {
                y[group.y * width + n] = activate(factor * sum) * select(1.0, factor * other, gated);
            }
        } else {
            let n = panel_of_expert * 32u + local.x;
            if n < width {
                y[group.y * width + n] = residual[group.y * width + n] + sum;
            }
        }
    }
}
# endif
