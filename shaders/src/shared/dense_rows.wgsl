<#- The parts of `dense` for GPUs of any kind and one to eight tokens: eight lanes own R rows each, of a panel or of half of one, and S slices of
    the columns run beside them, so that many loads of weights are on their way at once, eight lanes read what lies side by side, and what is
    loaded of the input serves R rows. -#>
# import "panel" as panel

<% macro sum(r, t, TM) -%>
<#- The sum of a lane's row `r` and of token `t`; four tokens are a vector. -#>
<% if TM == 1 %>sum${ r }<% else %>sum${ r }_${ t // 4 }.${ "xyzw"[t % 4] }<% endif %>
<%- endmacro %>

<% macro kept(TM, R, verb) -%>
<#- Stores the sums in `partial`, or adds what is there. -#>
<%- for r in range(R) %>
<%- for t in range(TM) %>
        <% if verb == "add" %>${ sum(r, t, TM) } += partial[place + ${ t * 8 * R + 8 * r }u]<% else %>partial[place + ${ t * 8 * R + 8 * r }u] = ${ sum(r, t, TM) }<% endif %>;
<%- endfor %>
<%- endfor %>
<%- endmacro %>

<% macro body(scheme, TM, R, S, packed, quantized, wide, split, offset) -%>
<%- set apart = 32 // R -%>
<%- set stride = TM * 8 * R + 8 -%>
// [8, TM, 8 R]: sums of eight slices; what lies between two of them keeps them in other banks of memory
var<workgroup> partial: array<f32, ${ 8 * stride }>;
<%- if not packed %>
// [TM, S]
var<workgroup> squares: array<f32, ${ TM * S }>;
<%- endif %>

@compute @workgroup_size(8, ${ S })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
<%- if R == 2 %>
    let panel = (params.first + group.x) / 2u;
    let row0 = (params.first + group.x) % 2u * 8u + local.x;
<%- else %>
    let panel = params.first + group.x;
    let row0 = local.x;
<%- endif %>
    let token0 = group.y * ${ TM }u;
    let place = local.y % 8u * ${ stride }u + local.x;
<%- for r in range(R) %>
<%- if TM == 1 %>
    var sum${ r } = 0.0;
<%- else %>
<%- for s in range(TM // 4) %>
    var sum${ r }_${ s } = vec4<f32>();
<%- endfor %>
<%- endif %>
<%- endfor %>
<%- for t in range(TM) %>
<%- if not packed %>
    let x${ t } = min(token0 + ${ t }u, params.m - 1u) * params.k4;
    var square${ t } = 0.0;
<%- endif %>
<%- endfor %>
<%- if not packed %>
    let k4 = params.k4;
    let normalize = (params.flags & 1u) != 0u;
<%- if TM > 1 %>
    // Always 2, in a form in which no compiler unrolls the loop: some take minutes for what becomes of it.
    let halves_of_block = min(2u, 8u * params.blocks);
<%- endif %>
<%- endif %>
    for (var b = local.y; b < params.blocks; b += ${ S }u) {
        let block = panel * params.blocks + b;
<%- if wide %>
        let wide = panel * ((params.blocks + 7u) / 8u) + b / 8u;
        let part = b % 8u;
<%- endif %>
<%- if packed or TM == 1 %>
<%- for r in range(R) %>
${ panel.loads(scheme, "w" ~ r, "block", "(row0 + " ~ apart * r ~ "u)") }
<%- endfor %>
<%- endif %>
<%- if quantized and R == 2 %>
${ panel.two_scales(scheme, "d", "block", "wide", "part", "row0") }
<%- elif quantized %>
${ panel.scales(scheme, "d", "block", "wide", "part", "row0") }
<%- endif %>
<%- if packed %>
${ whole(scheme, TM, R, split, offset) }
<%- elif TM == 1 %>
${ one(scheme, R, quantized, split, offset) }
<%- else %>
${ several(scheme, TM, R, apart, quantized, split) }
<%- endif %>
    }
<%- for fold in range(1, S // 8) %>
    if local.y / 8u == ${ fold }u {
${ kept(TM, R, "store") }
    }
    workgroupBarrier();
    if local.y < 8u {
${ kept(TM, R, "add") }
    }
    workgroupBarrier();
<%- endfor %>
    if local.y < 8u {
${ kept(TM, R, "store") }
    }
<%- if not packed %>
    if local.x == 0u {
<%- for t in range(TM) %>
        squares[${ t * S }u + local.y] = square${ t };
<%- endfor %>
    }
<%- endif %>
    workgroupBarrier();
    // Token t is finished by the invocations (row, t).
    let t = local.y;
    if t < ${ TM }u {
        var factor = 1.0;
<%- if not packed %>
        if normalize {
            var square = 0.0;
            for (var slice = 0u; slice < ${ S }u; slice++) {
                square += squares[t * ${ S }u + slice];
            }
            factor = inverseSqrt(square / f32(params.columns) + params.epsilon);
        }
<%- endif %>
<%- for r in range(R) %>
        var all${ r } = 0.0;
<%- endfor %>
        for (var slice = 0u; slice < 8u; slice++) {
            let at = slice * ${ stride }u + t * ${ 8 * R }u + local.x;
<%- for r in range(R) %>
            all${ r } += partial[at + ${ 8 * r }u];
<%- endfor %>
        }
        if (params.flags & 8u) != 0u {
<%- for r in range(R // 2) %>
            finish_pair(token0 + t, panel * 16u + row0 + ${ apart * r }u, panel * 32u + row0 + ${ apart * r }u, factor * all${ r }, factor * all${ r + R // 2 });
<%- endfor %>
        } else {
<%- for r in range(R) %>
            finish(token0 + t, panel * 32u + row0 + ${ apart * r }u, factor * all${ r });
<%- endfor %>
        }
    }
<%- endmacro %>

<% macro one(scheme, R, quantized, split, offset) -%>
<#- Adds a block's products of one token in floats. -#>
<%- for j in range(8) %>
        let place${ j } = min(b * 8u + ${ j }u, k4 - 1u);
        var v_${ j } = x[x0 + place${ j }];
<%- endfor %>
        if b * 8u + 8u > k4 {
<%- for j in range(1, 8) %>
            v_${ j } = select(vec4<f32>(), v_${ j }, b * 8u + ${ j }u < k4);
<%- endfor %>
        }
        if normalize {
<%- for j in range(8) %>
            square0 += dot(v_${ j }, v_${ j });
            v_${ j } *= gain[place${ j }];
<%- endfor %>
        }
<%- if offset %>
        let sum_lower = (v_0 + v_1) + (v_2 + v_3);
        let sum_upper = (v_4 + v_5) + (v_6 + v_7);
        let lower = (sum_lower.x + sum_lower.y) + (sum_lower.z + sum_lower.w);
        let upper = (sum_upper.x + sum_upper.y) + (sum_upper.z + sum_upper.w);
<%- endif %>
<%- for r in range(R) %>
<%- for (name, first, last) in ([("part", 0, 4), ("rest", 4, 8)] if split else [("part", 0, 8)]) %>
        var ${ name }${ r } = vec4<f32>();
<%- for j in range(first, last) %>
        ${ name }${ r } += ${ panel.four(scheme, "w" ~ r, j) } * v_${ j };
<%- endfor %>
<%- if offset or scheme == "q8_0" %>
        ${ name }${ r } *= ${ panel.spread(scheme) };
<%- endif %>
        let ${ name }_sum${ r } = (${ name }${ r }.x + ${ name }${ r }.y) + (${ name }${ r }.z + ${ name }${ r }.w);
<%- endfor %>
<%- if not quantized %>
        sum${ r } += part_sum${ r };
<%- elif split %>
        sum${ r } += (d${ r }.x * part_sum${ r } + d${ r }_rest.x * rest_sum${ r }) + (d${ r }.y * lower + d${ r }_rest.y * upper);
<%- else %>
        sum${ r } += d${ r }.x * part_sum${ r }<% if offset %> + d${ r }.y * (lower + upper)<% endif %>;
<%- endif %>
<%- endfor %>
<%- endmacro %>

<% macro several(scheme, TM, R, apart, quantized, split) -%>
<#- Adds a block's products of several tokens in floats, half a block at a time: weights are made whole numbers times scale once for all tokens. -#>
        for (var half = 0u; half < halves_of_block; half++) {
<%- for r in range(R) %>
${ panel.half_loads(scheme, "w" ~ r, "block", "half", "(row0 + " ~ apart * r ~ "u)") }
<%- if split %>
            let pair${ r } = select(d${ r }, d${ r }_rest, half == 1u);
<%- elif quantized %>
            let pair${ r } = d${ r };
<%- endif %>
<%- endfor %>
<%- for q in range(4) %>
            {
                let at = b * 8u + half * 4u + ${ q }u;
                let four = min(at, k4 - 1u);
<%- for t in range(TM) %>
                let v${ t } = x[x${ t } + four];
<%- endfor %>
<%- for r in range(R) %>
                var n${ r } = ${ panel.four(scheme, "w" ~ r, q) };
<%- if quantized %>
                n${ r } = pair${ r }.x * n${ r }<% if scheme not in ["iq4_nl", "iq4_xs", "mxfp4"] %> * ${ panel.spread(scheme) }<% endif %> + pair${ r }.y;
<%- endif %>
<%- endfor %>
                if at >= k4 {
<%- for r in range(R) %>
                    n${ r } = vec4<f32>();
<%- endfor %>
                } else if normalize {
                    let factor = gain[four];
<%- for t in range(TM) %>
                    square${ t } += dot(v${ t }, v${ t });
<%- endfor %>
<%- for r in range(R) %>
                    n${ r } *= factor;
<%- endfor %>
                }
<%- for s in range(TM // 4) %>
<%- for (c, of) in [(0, "x"), (1, "y"), (2, "z"), (3, "w")] %>
                let k${ c }_${ s } = vec4<f32>(v${ 4 * s }.${ of }, v${ 4 * s + 1 }.${ of }, v${ 4 * s + 2 }.${ of }, v${ 4 * s + 3 }.${ of });
<%- endfor %>
<%- for r in range(R) %>
                sum${ r }_${ s } = n${ r }.w * k3_${ s } + (n${ r }.z * k2_${ s } + (n${ r }.y * k1_${ s } + (n${ r }.x * k0_${ s } + sum${ r }_${ s })));
<%- endfor %>
<%- endfor %>
            }
<%- endfor %>
        }
<%- endmacro %>

<% macro whole(scheme, TM, R, split, offset) -%>
<#- Adds a block's products of inputs in bytes, of which four tokens lie side by side. -#>
<%- set sets = 1 if TM == 1 else TM // 4 %>
<%- set names = ["part", "rest"] if split else ["part"] %>
<%- for s in range(sets) %>
<%- if TM == 1 %>
        let start${ s } = (token0 / 4u * params.blocks + b) * 36u + (token0 & 3u);
        let factor${ s } = factors[start${ s } + 32u] * ${ panel.fraction(scheme) };
<%- else %>
        let start${ s } = (min(group.y * ${ sets }u + ${ s }u, (params.m - 1u) / 4u) * params.blocks + b) * 9u;
        let factor${ s } = bitcast<vec4<f32>>(x[start${ s } + 8u]) * ${ panel.fraction(scheme) };
<%- endif %>
<%- endfor %>
<%- for name in names %>
<%- for t in range(TM) %>
<%- for r in range(R) %>
        var ${ name }${ r }_${ t } = 0;
<%- endfor %>
<%- if offset %>
        var ${ name }_total${ t } = 0;
<%- endif %>
<%- endfor %>
<%- endfor %>
<%- for j in range(8) %>
<%- set name = "rest" if split and j >= 4 else "part" %>
        {
<%- for s in range(sets) %>
            let v${ s } = x[start${ s } + ${ 4 * j if TM == 1 else j }u];
<%- endfor %>
<%- for r in range(R) %>
            let n${ r } = ${ panel.bytes(scheme, "w" ~ r, j) };
<%- endfor %>
<%- for t in range(TM) %>
<%- set v = "v0" if TM == 1 else ("v" ~ (t // 4) ~ "." ~ "xyzw"[t % 4]) %>
<%- if offset %>
            ${ name }_total${ t } += dot4I8Packed(${ v }, 0x01010101u);
<%- endif %>
<%- for r in range(R) %>
            ${ name }${ r }_${ t } += dot4I8Packed(n${ r }, ${ v });
<%- endfor %>
<%- endfor %>
        }
<%- endfor %>
<%- for t in range(TM) %>
<%- set factor = "factor0" if TM == 1 else ("factor" ~ (t // 4) ~ "." ~ "xyzw"[t % 4]) %>
<%- for r in range(R) %>
        ${ sum(r, t, TM) } += ${ factor } * (d${ r }.x * f32(part${ r }_${ t })<% if offset %> + d${ r }.y * f32(part_total${ t })<% endif %>
            <%- if split %> + d${ r }_rest.x * f32(rest${ r }_${ t })<% if offset %> + d${ r }_rest.y * f32(rest_total${ t })<% endif %><% endif %>);
<%- endfor %>
<%- endfor %>
<%- endmacro %>
