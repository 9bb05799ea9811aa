<#- The tiles of `dense` for GPUs that have more to gain from them than `tiled` in f32 gives: of inputs in bytes, and of 64 rows by 64 tokens. -#>
# import "panel" as panel

<% macro whole(scheme, TM, P, wide, split, offset) -%>
<#- 32 P rows by TM tokens of inputs in bytes. What lies in workgroup memory is words of four bytes each, weights already masked, as vectors of
    16 columns; an invocation owns four P rows, eight apart, and four neighbouring tokens. With one panel four slices of the columns
    have a tile each, with two a tile holds two blocks of columns. -#>
<%- set R = 4 * P %>
<%- set rows = 32 * P %>
<%- set sets = TM // 4 %>
<%- set units = 4 if P == 1 else 2 %>
<%- set pair = "vec4<f32>" if split else "vec2<f32>" %>
// [${ units }, 2, ${ rows }] and [${ units }, 2, ${ TM }]: 16 columns of each row of weights, and of each token, of which every fourth lie side by side
var<workgroup> rows: array<vec4<u32>, ${ units * 2 * rows }>;
var<workgroup> tokens: array<vec4<u32>, ${ units * 2 * TM }>;
// [${ units }, ${ rows }]: scale and offset<% if split %>, of the first half of a block and of the second<% endif %>
var<workgroup> scales: array<${ pair }, ${ units * rows }>;
// [${ units }, ${ sets }]: the scales of four tokens
var<workgroup> sizes: array<vec4<f32>, ${ units * sets }>;
<%- if offset %>
// [${ units }, 2, ${ sets }]: the sums of 16 columns of four tokens
var<workgroup> totals: array<vec4<i32>, ${ units * 2 * sets }>;
<%- endif %>

@compute @workgroup_size(8, ${ sets }, ${ 4 if P == 1 else 1 })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
<%- if P == 1 %>
    let panel0 = params.first + group.x;
    let last = panel0;
<%- else %>
    let panel0 = (params.first + group.x) * ${ P }u;
    // The panels of a gated unit are of 16 columns of y.
    let last = (params.n4 - 1u) / select(8u, 4u, (params.flags & 8u) != 0u);
<%- endif %>
    let at = local.y * 8u + local.x;
<%- for r in range(R) %>
    var sum${ r } = vec4<f32>();
<%- endfor %>
    // Always 2, in a form in which no compiler unrolls the loops: some take minutes for what becomes of them.
    let two = min(2u, 8u * params.blocks);
    for (var step = 0u; step < params.blocks; step += ${ units }u) {
<%- if P == 1 %>
        let unit = local.z;
        let own = unit;
        let holds = at < 32u;
        let given = at >= 32u && at < ${ 32 + 2 * sets }u;
        let item = at - 32u;
<%- else %>
        let unit = at / ${ rows }u;
        let own = at / ${ 2 * sets }u;
        let holds = true;
        let given = at < ${ 2 * sets * units }u;
        let item = at % ${ 2 * sets }u;
<%- endif %>
        if holds {
            let row = at % 32u;
            let panel = min(panel0 + at % ${ rows }u / 32u, last);
            let b = min(step + unit, params.blocks - 1u);
            let block = panel * params.blocks + b;
<%- if wide %>
            let wide = panel * ((params.blocks + 7u) / 8u) + b / 8u;
            let part = b % 8u;
<%- endif %>
${ panel.loads(scheme, "w", "block", "row") }
${ panel.scale(scheme, "d", "block", "wide", "part", "row") }
            let to = unit * ${ 2 * rows }u + at % ${ rows }u;
<%- for h in range(2) %>
            rows[to + ${ h * rows }u] = vec4<u32>(
<%- for j in range(4) %>
                ${ panel.bytes(scheme, "w", 4 * h + j) },
<%- endfor %>
            );
<%- endfor %>
            // A block beyond the last counts for nothing.
            let there = select(0.0, 1.0, step + unit < params.blocks);
            scales[unit * ${ rows }u + at % ${ rows }u] = there * <% if split %>vec4<f32>(d, d_rest)<% else %>d<% endif %>;
        }
        if given {
            let quad = item % ${ sets }u;
            let half = item / ${ sets }u;
            let b = min(step + own, params.blocks - 1u);
            let start = (min(group.y * ${ sets }u + quad, (params.m - 1u) / 4u) * params.blocks + b) * 9u;
<%- for j in range(4) %>
            let a${ j } = x[start + half * 4u + ${ j }u];
<%- endfor %>
            let to = (own * 2u + half) * ${ TM }u + quad;
<%- for i in range(4) %>
<%- set i_ = "xyzw"[i] %>
            tokens[to + ${ i * sets }u] = vec4<u32>(a0.${ i_ }, a1.${ i_ }, a2.${ i_ }, a3.${ i_ });
<%- endfor %>
<%- if offset %>
            var total = vec4<i32>();
<%- for j in range(4) %>
            total += vec4<i32>(dot4I8Packed(a${ j }.x, 0x01010101u), dot4I8Packed(a${ j }.y, 0x01010101u), dot4I8Packed(a${ j }.z, 0x01010101u), dot4I8Packed(a${ j }.w, 0x01010101u));
<%- endfor %>
            totals[(own * 2u + half) * ${ sets }u + quad] = total;
<%- endif %>
            if half == 0u {
                sizes[own * ${ sets }u + quad] = bitcast<vec4<f32>>(x[start + 8u]) * ${ panel.fraction(scheme) };
            }
        }
        workgroupBarrier();
<%- if P == 1 %>
        {
            let unit = local.z;
<%- else %>
        for (var unit = 0u; unit < two; unit++) {
<%- endif %>
            let size = sizes[unit * ${ sets }u + local.y];
<%- if not split %>
<%- for r in range(R) %>
            var part${ r } = vec4<i32>();
<%- endfor %>
<%- endif %>
            for (var half = 0u; half < two; half++) {
                let row = (unit * 2u + half) * ${ rows }u + local.x;
                let token = (unit * 2u + half) * ${ TM }u + local.y;
<%- for t in range(4) %>
                let v${ t } = tokens[token + ${ t * sets }u];
<%- endfor %>
<%- if split and offset %>
                let total = vec4<f32>(totals[(unit * 2u + half) * ${ sets }u + local.y]);
<%- endif %>
<%- for r in range(R) %>
                {
                    let w_ = rows[row + ${ 8 * r }u];
<%- if split %>
                    var part${ r } = vec4<i32>();
<%- endif %>
<%- for j in "xyzw" %>
                    part${ r } += vec4<i32>(dot4I8Packed(w_.${ j }, v0.${ j }), dot4I8Packed(w_.${ j }, v1.${ j }), dot4I8Packed(w_.${ j }, v2.${ j }), dot4I8Packed(w_.${ j }, v3.${ j }));
<%- endfor %>
<%- if split %>
                    let both = scales[unit * ${ rows }u + local.x + ${ 8 * r }u];
                    let d = select(both.xy, both.zw, half == 1u);
                    sum${ r } += size * (d.x * vec4<f32>(part${ r })<% if offset %> + d.y * total<% endif %>);
<%- endif %>
                }
<%- endfor %>
            }
<%- if not split %>
<%- if offset %>
            let total = vec4<f32>(totals[unit * ${ 2 * sets }u + local.y] + totals[unit * ${ 2 * sets }u + ${ sets }u + local.y]);
<%- endif %>
<%- for r in range(R) %>
            let d${ r } = scales[unit * ${ rows }u + local.x + ${ 8 * r }u];
            sum${ r } += size * (d${ r }.x * vec4<f32>(part${ r })<% if offset %> + d${ r }.y * total<% endif %>);
<%- endfor %>
<%- endif %>
        }
        workgroupBarrier();
    }
<%- if P == 1 %>
    // The slices' sums, one after another.
    for (var slice = 1u; slice < 4u; slice++) {
        if local.z == slice {
<%- for r in range(R) %>
            rows[${ 64 * r }u + at] = bitcast<vec4<u32>>(sum${ r });
<%- endfor %>
        }
        workgroupBarrier();
        if local.z == 0u {
<%- for r in range(R) %>
            sum${ r } += bitcast<vec4<f32>>(rows[${ 64 * r }u + at]);
<%- endfor %>
        }
        workgroupBarrier();
    }
    if local.z != 0u {
        return;
    }
<%- endif %>
${ finished(TM, P) }
<%- endmacro %>

<% macro finished(TM, P) -%>
<#- The results of four P rows, eight apart, of four neighbouring tokens. -#>
    let token0 = group.y * ${ TM }u + local.y * 4u;
    for (var t = 0u; t < min(4u, params.m); t++) {
        if (params.flags & 8u) != 0u {
<%- for p in range(P) %>
<%- for r in range(2) %>
            finish_pair(token0 + t, (panel0 + ${ p }u) * 16u + local.x + ${ 8 * r }u, (panel0 + ${ p }u) * 32u + local.x + ${ 8 * r }u, sum${ 4 * p + r }[t], sum${ 4 * p + r + 2 }[t]);
<%- endfor %>
<%- endfor %>
        } else {
<%- for p in range(P) %>
<%- for r in range(4) %>
            finish(token0 + t, (panel0 + ${ p }u) * 32u + local.x + ${ 8 * r }u, sum${ 4 * p + r }[t]);
<%- endfor %>
<%- endfor %>
        }
    }
<%- endmacro %>

<% macro floats(scheme, P, wide, split, spread, quantized) -%>
<#- 32 P rows by as many tokens in f32, half a block of columns at a time; an invocation owns four P rows, eight apart, and four neighbouring
    tokens. With one panel four slices of the columns have a tile each. -#>
<%- set R = 4 * P %>
<%- set rows = 32 * P %>
<%- set sets = 8 * P %>
<%- set slices = 4 if P == 1 else 1 %>
<%- set slice = "local.z" if P == 1 else "0u" %>
// [${ slices }, 4, ${ rows }]: four columns of each row of weights
var<workgroup> rows: array<vec4<f32>, ${ slices * 4 * rows }>;
// [${ slices }, 4, ${ rows }]: four columns of each token, of which every fourth lie side by side, in another order for each four columns, so that
// those stored together are in other banks of memory
var<workgroup> tokens: array<vec4<f32>, ${ slices * 4 * rows }>;

@compute @workgroup_size(8, ${ sets }, ${ slices })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let panel0 = (params.first + group.x) * ${ P }u;
    // The panels of a gated unit are of 16 columns of y.
    let last = (params.n4 - 1u) / select(8u, 4u, (params.flags & 8u) != 0u);
    let at = local.y * 8u + local.x;
    let row = at % 32u;
    let panel = min(panel0 + at % ${ rows }u / 32u, last);
    // Of every row two invocations hold eight columns each; of every token four hold four.
    let upper = at >= ${ rows }u;
    let four = at % 4u;
    let begin = ${ slice } * ${ 4 * rows }u;
    let k4 = params.k4;
    let normalize = (params.flags & 1u) != 0u;
    var square = vec4<f32>();
<%- for r in range(R) %>
    var sum${ r } = vec4<f32>();
<%- endfor %>
    for (var first = 0u; first < 2u * params.blocks; first += ${ slices }u) {
        // What lies beyond the last block meets tokens of zeros.
        let step = first + ${ slice };
        let half = step % 2u;
        let b = min(step / 2u, params.blocks - 1u);
        let block = panel * params.blocks + b;
<%- if wide %>
        let wide = panel * ((params.blocks + 7u) / 8u) + b / 8u;
        let part = b % 8u;
<%- endif %>
${ panel.half_loads(scheme, "w", "block", "half", "row") }
<%- if quantized %>
${ panel.scale(scheme, "d", "block", "wide", "part", "row") }
        let pair = <% if split %>select(d, d_rest, half == 1u)<% else %>d<% endif %>;
<%- endif %>
<%- for q in range(2) %>
        {
            let lower_four = ${ panel.four(scheme, "w", q) };
            let upper_four = ${ panel.four(scheme, "w", q + 2) };
            var n = select(lower_four, upper_four, upper)<% if spread or scheme == "q8_0" %> * ${ panel.spread(scheme) }<% endif %>;
<%- if quantized %>
            n = pair.x * n + pair.y;
<%- endif %>
            let c = select(${ q }u, ${ q + 2 }u, upper);
            if normalize {
                n *= gain[min(step * 4u + c, k4 - 1u)];
            }
            rows[begin + c * ${ rows }u + at % ${ rows }u] = n;
        }
<%- endfor %>
        let column = min(step * 4u + four, k4 - 1u);
<%- for q in range(2) %>
        {
            let own = at / 4u + ${ 16 * P * q }u;
            let v = x[min(group.y * ${ rows }u + own, params.m - 1u) * k4 + column];
            let to = begin + four * ${ rows }u + own % 4u * ${ sets }u + ((own / 4u) ^ (2u * four));
            tokens[to] = select(vec4<f32>(), v, step * 4u + four < k4);
        }
<%- endfor %>
        workgroupBarrier();
        for (var c = 0u; c < min(4u, k4); c++) {
            let token = begin + c * ${ rows }u + (local.y ^ (2u * c));
<%- for t in range(4) %>
            let t_${ t } = tokens[token + ${ sets * t }u];
<%- endfor %>
            if normalize {
                square += vec4<f32>(dot(t_0, t_0), dot(t_1, t_1), dot(t_2, t_2), dot(t_3, t_3));
            }
<%- for (k, of) in [(0, "x"), (1, "y"), (2, "z"), (3, "w")] %>
            let k_${ k } = vec4<f32>(t_0.${ of }, t_1.${ of }, t_2.${ of }, t_3.${ of });
<%- endfor %>
<%- for r in range(R) %>
            let w_${ r } = rows[begin + c * ${ rows }u + ${ 8 * r }u + local.x];
            sum${ r } = w_${ r }.w * k_3 + (w_${ r }.z * k_2 + (w_${ r }.y * k_1 + (w_${ r }.x * k_0 + sum${ r })));
<%- endfor %>
        }
        workgroupBarrier();
    }
<%- if P == 1 %>
    // The slices' sums, one after another.
    for (var slice = 1u; slice < 4u; slice++) {
        if local.z == slice {
<%- for r in range(R) %>
            rows[${ 64 * r }u + at] = sum${ r };
<%- endfor %>
            rows[${ 64 * R }u + at] = square;
        }
        workgroupBarrier();
        if local.z == 0u {
<%- for r in range(R) %>
            sum${ r } += rows[${ 64 * r }u + at];
<%- endfor %>
            square += rows[${ 64 * R }u + at];
        }
        workgroupBarrier();
    }
    if local.z != 0u {
        return;
    }
<%- endif %>
    if normalize {
        let factor = inverseSqrt(square / f32(params.columns) + params.epsilon);
<%- for r in range(R) %>
        sum${ r } *= factor;
<%- endfor %>
    }
${ finished(rows, P) }
<%- endmacro %>
