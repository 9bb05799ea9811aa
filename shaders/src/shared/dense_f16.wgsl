<#- The parts of `dense` whose products are in 16-bit floats: inputs are scaled so that the largest of a token is 32, which leaves room for
    sums of eight products with numbers of eight bits; sums of a block, scales and offsets are in f32. -#>
# import "panel" as panel

<% macro input() -%>
// Four columns of a token, zeros beyond their end.
fn columns(token: u32, at: u32) -> vec4<f32> {
    let inside = vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.columns);
    return select(vec4<f32>(), x[token * params.k4 + min(at, params.k4 - 1u)], inside);
}

// What the norm multiplies them by, but for what is the same for all.
fn gains(at: u32) -> vec4<f32> {
    if (params.flags & 1u) != 0u {
        return gain[min(at, params.k4 - 1u)];
    }
    return vec4<f32>(1.0);
}

fn largest(v: vec4<f32>) -> f32 {
    let a = abs(v);
    return max(max(a.x, a.y), max(a.z, a.w));
}

// What inputs of at most `peak` are multiplied by, and what results are multiplied by.
fn room_for(peak: f32) -> vec2<f32> {
    let bounded = max(peak, 1e-36);
    return vec2<f32>(32.0 / bounded, bounded * 0.03125);
}

fn total(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
<%- endmacro %>

<% macro tile(scheme, TM, wide, split, offset) -%>
<#- 32 rows by 32 tokens up to the ends of the sums, as `tiled` in f32 has them. -#>
// [8, 32] and [8, 33]: four columns of each row of weights, and of each token; the padding keeps those stored together in other banks
var<workgroup> rows: array<vec4<f16>, 256>;
var<workgroup> tokens: array<vec4<f16>, 264>;
// of each row scale and offset, of the first half of a block and of the second
var<workgroup> scales: array<vec4<f32>, 32>;
// [8, 32]: of each token an eighth of the columns: the largest, and the sum of squares
var<workgroup> peaks: array<f32, 256>;
var<workgroup> squares: array<f32, 256>;
<%- if offset %>
// [8, 32]: of each token the sums of four columns
var<workgroup> sums: array<f32, 256>;
<%- endif %>

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let panel = params.first + group.x;
    let row0 = local.x;
    let token0 = group.y * ${ TM }u + local.y;
    let at = local.y * 8u + local.x;
    let row = at % 32u;
    let half = at / 32u;
    let normalize = (params.flags & 1u) != 0u;
<%- for t in range(4) %>
    let own${ t } = min(token0 + ${ 8 * t }u, params.m - 1u);
    var peak${ t } = 0.0;
    var square${ t } = 0.0;
<%- for r in range(4) %>
    var sum${ r }_${ t } = 0.0;
<%- endfor %>
<%- endfor %>
    for (var i = local.x; i < params.k4; i += 8u) {
<%- for t in range(4) %>
        let v${ t } = columns(own${ t }, i);
        square${ t } += dot(v${ t }, v${ t });
        peak${ t } = max(peak${ t }, largest(v${ t } * gains(i)));
<%- endfor %>
    }
<%- for t in range(4) %>
    peaks[local.x * 32u + ${ 8 * t }u + local.y] = peak${ t };
    squares[local.x * 32u + ${ 8 * t }u + local.y] = square${ t };
<%- endfor %>
    workgroupBarrier();
<%- for t in range(4) %>
    square${ t } = 0.0;
    for (var i = 0u; i < 8u; i++) {
        peak${ t } = max(peak${ t }, peaks[i * 32u + ${ 8 * t }u + local.y]);
        square${ t } += squares[i * 32u + ${ 8 * t }u + local.y];
    }
    let room${ t } = room_for(peak${ t });
<%- endfor %>
    for (var b = 0u; b < params.blocks; b++) {
        let block = panel * params.blocks + b;
<%- if wide %>
        let wide = panel * ((params.blocks + 7u) / 8u) + b / 8u;
        let part = b % 8u;
<%- endif %>
${ panel.half_loads(scheme, "w", "block", "half", "row") }
        if half == 0u {
${ panel.scale(scheme, "d", "block", "wide", "part", "row") }
            scales[row] = vec4<f32>(d, <% if split %>d_rest<% else %>d<% endif %>);
        }
        let place = b * 8u + local.x;
        let factor = gains(place);
<%- for q in range(4) %>
        rows[(half * 4u + ${ q }u) * 32u + row] = ${ panel.four_f16(scheme, "w", q) };
        let v${ q } = columns(own${ q }, place) * factor * room${ q }.x;
        tokens[local.x * 33u + ${ 8 * q }u + local.y] = vec4<f16>(v${ q });
<%- if offset %>
        sums[local.x * 32u + ${ 8 * q }u + local.y] = total(v${ q });
<%- endif %>
<%- endfor %>
        workgroupBarrier();
<%- for (first, last, at) in ([(0, 4, "xy"), (4, 8, "zw")] if split else [(0, 8, "xy")]) %>
        {
<%- for t in range(4) %>
            var all${ t } = 0.0;
<%- for r in range(4) %>
            var part${ r }_${ t } = vec4<f16>();
<%- endfor %>
<%- endfor %>
            for (var c = ${ first }u; c < ${ last }u; c++) {
<%- for r in range(4) %>
                let w_${ r } = rows[c * 32u + ${ 8 * r }u + local.x];
<%- endfor %>
<%- for t in range(4) %>
                let v_${ t } = tokens[c * 33u + ${ 8 * t }u + local.y];
<%- if offset %>
                all${ t } += sums[c * 32u + ${ 8 * t }u + local.y];
<%- endif %>
<%- for r in range(4) %>
                part${ r }_${ t } += w_${ r } * v_${ t };
<%- endfor %>
<%- endfor %>
            }
<%- for r in range(4) %>
            let d${ r } = scales[${ 8 * r }u + local.x].${ at };
<%- for t in range(4) %>
            sum${ r }_${ t } += d${ r }.x * total(vec4<f32>(part${ r }_${ t }))<% if offset %> + d${ r }.y * all${ t }<% endif %>;
<%- endfor %>
<%- endfor %>
        }
<%- endfor %>
        workgroupBarrier();
    }
<%- for t in range(4) %>
    var scale${ t } = room${ t }.y;
    if normalize {
        scale${ t } *= inverseSqrt(square${ t } / f32(params.columns) + params.epsilon);
    }
<%- endfor %>
<%- endmacro %>

<% macro peak() -%>
<#- Declares `room` of the token `token0`, found by all of the workgroup. -#>
    let at = local.y * 32u + local.x;
    var peak = 0.0;
    for (var i = at; i < params.k4; i += 256u) {
        peak = max(peak, largest(columns(token0, i) * gains(i)));
    }
    peaks[at] = peak;
    workgroupBarrier();
    for (var step = 128u; step > 0u; step /= 2u) {
        if at < step {
            peaks[at] = max(peaks[at], peaks[at + step]);
        }
        workgroupBarrier();
    }
    let room = room_for(peaks[0]);
<%- endmacro %>

<% macro block(scheme, split, offset) -%>
<#- Adds a block of row `row0` to `sum0_0`, and the squares of its inputs to `square0`. -#>
<%- for j in range(8) %>
        let x_${ j } = columns(token0, b * 8u + ${ j }u);
        square0 += dot(x_${ j }, x_${ j });
        let v_${ j } = x_${ j } * gains(b * 8u + ${ j }u) * room.x;
<%- endfor %>
${ panel.loads(scheme, "w", "block", "row0") }
${ panel.scale(scheme, "d", "block", "wide", "part", "row0") }
        var part0 = vec4<f16>();
<%- if split %>
        var rest0 = vec4<f16>();
<%- endif %>
<%- for j in range(8) %>
        ${ "rest0" if split and j >= 4 else "part0" } += (${ panel.four_f16(scheme, "w", j) }) * vec4<f16>(v_${ j });
<%- endfor %>
<%- if offset %>
        let lower = total((v_0 + v_1) + (v_2 + v_3));
        let upper = total((v_4 + v_5) + (v_6 + v_7));
<%- endif %>
        sum0_0 += d.x * total(vec4<f32>(part0))
            <%- if split %> + d_rest.x * total(vec4<f32>(rest0))<% endif %>
            <%- if offset and split %> + (d.y * lower + d_rest.y * upper)<% elif offset %> + d.y * (lower + upper)<% endif %>;
<%- endmacro %>
