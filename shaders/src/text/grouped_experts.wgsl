// The experts' matrices for many tokens: of the choices that go to an expert a tile is multiplied with each of its weights.
//
// Gated units: y[choice] = act(gate * x) * (up * x) of the choice's token. The way back: y[choice] = w * x[choice]. An expert outside
// `first .. first + count` lies in another stack and counts as zero.
//
// A workgroup owns a panel of 32 rows of an expert and a tile of 32 choices. A block of columns is written out in workgroup memory once for
// all of them, weights as numbers; an invocation owns 4 rows, 8 apart, of 4 choices, 8 apart. Eights of a tile that hold no choice cost nothing.
//
// x = i8: the input is bytes with a scale for each block of 32 columns, and products are those of four bytes at a time.
//@ native
//@ axis x = f32 | i8
//@ skip x=i8, scheme=f32
//@ skip x=i8, scheme=f16
//@ skip x=i8, scheme=bf16
//@ axis scheme = f32 | f16 | bf16 | q8_0 | q4_0 | q4_1 | q5_0 | q5_1 | q2_k | q3_k | q4_k | q5_k | q6_k | iq4_nl | iq4_xs | mxfp4
# import "panel" as panel
# import "unit" as unit
# set packed = x == "i8"
# set quantized = scheme not in ["f32", "f16", "bf16"]
# set spread = quantized and scheme not in ["q8_0", "iq4_nl", "iq4_xs", "mxfp4"]
# set offset = scheme in ["q4_1", "q5_1", "q2_k", "q4_k", "q5_k"]
# set split = scheme in ["q2_k", "q3_k", "q6_k"]
# set wide = scheme in ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"]
# set next = 2 + panel.tensors(scheme) | int

struct Params {
    // 1: gated units, 0: the way back
    gated: u32,
    // experts of a token
    chosen: u32,
    // rows of x
    rows: u32,
    // experts in the stack: the number of the first, and how many
    first: u32,
    count: u32,
    // panels of an expert
    panels: u32,
    // columns of x, and of y, in fours
    k4: u32,
    n4: u32,
    // blocks of 32 columns
    blocks: u32,
    // 0: none, 1: SiLU, 2: GELU by tanh, 3: GELU by the error function
    activation: u32,
    // the first workgroup in x, where a launch is of some of them
    first_group: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
# if packed
// [m / 4, blocks, 9, 4] for gated units, else [m * chosen / 4, blocks, 9, 4]: of four rows side by side a word for every four columns of a
// block, then its scale
@group(0) @binding(1) var<storage, read> x: array<u32>;
# else
// [m, k] for gated units, else [m, chosen, k]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
# endif
${ panel.bindings(scheme, 2, false, packed) }
// [tiles, 33]: an expert and its choices
@group(0) @binding(${ next }) var<storage, read> tiles: array<u32>;
// [m, chosen, n]
@group(0) @binding(${ next + 1 }) var<storage, read_write> y: array<f32>;

const NONE = 0xffffffffu;

${ unit.functions() }

# if packed
// [2, 32]: 16 columns of each row of weights, and of each choice
var<workgroup> rows: array<vec4<u32>, 64>;
var<workgroup> tokens: array<vec4<u32>, 64>;
// scale and offset of each row<% if split %>, of the first half of a block and of the second<% endif %>
var<workgroup> scales: array<<% if split %>vec4<f32><% else %>vec2<f32><% endif %>, 32>;
// the scale of each choice<% if offset %>, and the sums of its first 16 columns and of the others<% endif %>
var<workgroup> sizes: array<vec4<f32>, 32>;
# else
// [8, 32] and [8, 33]: four columns of each row of weights, and of each choice; the padding keeps those stored together in other banks
var<workgroup> rows: array<vec4<f32>, 256>;
var<workgroup> tokens: array<vec4<f32>, 264>;
# endif

// The row of x of a choice; of none, any.
fn row_of(choice: u32) -> u32 {
    return min(select(choice, choice / params.chosen, params.gated != 0u), params.rows - 1u);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let panel_of_expert = params.first_group + group.x;
    let tile = group.y * 33u;
    // An expert below the first wraps to a large number, and a tile without any has the largest.
    let expert = tiles[tile] - params.first;
    let blocks = select(0u, params.blocks, tiles[tile] != NONE && expert < params.count);
    let home = min(expert, params.count - 1u) * params.panels + panel_of_expert;
    let at = local.y * 8u + local.x;
# if not packed
    let row = at % 32u;
    let half = at / 32u;
    let k4 = params.k4;
# endif
    // Eights of choices that there are; the first of them come first.
    var eights = 0u;
# for t in range(4)
    eights += select(0u, 1u, tiles[tile + ${ 1 + 8 * t }u] != NONE);
    let choice${ t } = tiles[tile + ${ 1 + 8 * t }u + local.y];
# if not packed
    let own${ t } = row_of(choice${ t }) * k4;
# endif
# for r in range(4)
    var sum${ r }_${ t } = 0.0;
# endfor
# endfor
    for (var b = 0u; b < blocks; b++) {
        let block = home * params.blocks + b;
# if wide
        let wide = home * ((params.blocks + 7u) / 8u) + b / 8u;
        let part = b % 8u;
# endif
# if packed
        // One half of the invocations holds the rows of weights, the other the choices.
        if at < 32u {
            let row = at;
${ panel.loads(scheme, "w", "block", "row") }
${ panel.scale(scheme, "d", "block", "wide", "part", "row") }
# for h in range(2)
            rows[${ 32 * h }u + row] = vec4<u32>(
# for j in range(4)
                ${ panel.bytes(scheme, "w", 4 * h + j) },
# endfor
            );
# endfor
            scales[row] = <% if split %>vec4<f32>(d, d_rest)<% else %>d<% endif %>;
        } else {
            let own = row_of(tiles[tile + 1u + at - 32u]);
            let start = (own / 4u * params.blocks + b) * 36u + (own & 3u);
# for h in range(2)
            let v_${ h } = vec4<u32>(<% for j in range(4) %>x[start + ${ 16 * h + 4 * j }u]<% if not loop.last %>, <% endif %><% endfor %>);
            tokens[${ 32 * h }u + at - 32u] = v_${ h };
# if offset
            var total_${ h } = 0;
# for j in "xyzw"
            total_${ h } += dot4I8Packed(v_${ h }.${ j }, 0x01010101u);
# endfor
# endif
# endfor
            let size = bitcast<f32>(x[start + 32u]);
            sizes[at - 32u] = vec4<f32>(size * ${ panel.fraction(scheme) }, <% if offset %>size * f32(total_0), size * f32(total_1)<% else %>0.0, 0.0<% endif %>, 0.0);
        }
# else
${ panel.half_loads(scheme, "w", "block", "half", "row") }
# if quantized
${ panel.scale(scheme, "d", "block", "wide", "part", "row") }
        let pair = <% if split %>select(d, d_rest, half == 1u)<% else %>d<% endif %>;
# endif
        let place = b * 8u + local.x;
# for q in range(4)
        var w${ q } = ${ panel.four(scheme, "w", q) }<% if spread or scheme == "q8_0" %> * ${ panel.spread(scheme) }<% endif %>;
# if quantized
        w${ q } = pair.x * w${ q } + pair.y;
# endif
        rows[(half * 4u + ${ q }u) * 32u + row] = w${ q };
        if eights > ${ q }u {
            tokens[local.x * 33u + ${ 8 * q }u + local.y] = select(vec4<f32>(), x[own${ q } + min(place, k4 - 1u)], place < k4);
        }
# endfor
# endif
        workgroupBarrier();
# if packed
# for r in range(4)
        let d_${ r } = scales[${ 8 * r }u + local.x];
# for h in range(2)
        let w_${ r }_${ h } = rows[${ 32 * h + 8 * r }u + local.x];
# endfor
# endfor
# for t in range(4)
        if eights > ${ t }u {
            let size = sizes[${ 8 * t }u + local.y];
# for h in range(2)
            let v_${ h } = tokens[${ 32 * h + 8 * t }u + local.y];
# endfor
# for r in range(4)
# for h in range(2)
            var part${ r }_${ h } = 0;
# for j in "xyzw"
            part${ r }_${ h } += dot4I8Packed(w_${ r }_${ h }.${ j }, v_${ h }.${ j });
# endfor
# endfor
# if split
            sum${ r }_${ t } += size.x * (d_${ r }.x * f32(part${ r }_0) + d_${ r }.z * f32(part${ r }_1))<% if offset %> + (d_${ r }.y * size.y + d_${ r }.w * size.z)<% endif %>;
# else
            sum${ r }_${ t } += size.x * d_${ r }.x * f32(part${ r }_0 + part${ r }_1)<% if offset %> + d_${ r }.y * (size.y + size.z)<% endif %>;
# endif
# endfor
        }
# endfor
# else
        for (var c = 0u; c < 8u; c++) {
# for r in range(4)
            let w_${ r } = rows[c * 32u + ${ 8 * r }u + local.x];
# endfor
# for t in range(4)
            if eights > ${ t }u {
                let v = tokens[c * 33u + ${ 8 * t }u + local.y];
# for r in range(4)
                sum${ r }_${ t } += dot(w_${ r }, v);
# endfor
            }
# endfor
        }
# endif
        workgroupBarrier();
    }
    let width = params.n4 * 4u;
    let choices = select(params.rows, params.rows * params.chosen, params.gated != 0u);
# for t in range(4)
    // None is beyond all.
    if choice${ t } < choices {
        let begin = choice${ t } * width;
        if params.gated != 0u {
# for r in range(2)
            let n${ r } = panel_of_expert * 16u + ${ 8 * r }u + local.x;
            if n${ r } < width {
                y[begin + n${ r }] = activate(sum${ r }_${ t }) * sum${ r + 2 }_${ t };
            }
# endfor
        } else {
# for r in range(4)
            let n${ r } = panel_of_expert * 32u + ${ 8 * r }u + local.x;
            if n${ r } < width {
                y[begin + n${ r }] = sum${ r }_${ t };
            }
# endfor
        }
    }
# endfor
}
