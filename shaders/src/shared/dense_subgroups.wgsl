<#- The part of `dense` for one token that is right whatever the size of subgroups, how their invocations are numbered, and how many of them
    run. A subgroup takes four rows of the panel at a time, and its invocations take them in turns, a block of columns each. -#>
# import "panel" as panel

<% macro body(scheme, quantized, wide, split, offset) -%>
var<workgroup> taken: atomic<u32>;
var<workgroup> subgroups: u32;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    if index == 0u {
        atomicStore(&taken, 0u);
    }
    workgroupBarrier();
    // Which of the subgroup's invocations this is, of how many, and which of the workgroup's subgroups.
    let lane = subgroupExclusiveAdd(1u);
    let lanes = subgroupAdd(1u);
    var number = 0u;
    if lane == 0u {
        number = atomicAdd(&taken, 1u);
    }
    number = subgroupBroadcastFirst(number);
    workgroupBarrier();
    if index == 0u {
        subgroups = atomicLoad(&taken);
    }
    let count = workgroupUniformLoad(&subgroups);
    let panel = params.first + group.x;
    let token = group.y;
    let k4 = params.k4;
    let normalize = (params.flags & 1u) != 0u;
    let slices = lanes / 4u;
    let which = lane % 4u;
    for (var round = 0u; round < 8u; round += count) {
        let quad = round + number;
        let row = (2u * quad + (which & 1u) + 16u * (which / 2u)) % 32u;
        var sum = 0.0;
        var square = 0.0;
        if quad < 8u && lane / 4u < slices {
            for (var b = lane / 4u; b < params.blocks; b += slices) {
                let block = panel * params.blocks + b;
<%- if wide %>
                let wide = panel * ((params.blocks + 7u) / 8u) + b / 8u;
                let part = b % 8u;
<%- endif %>
<%- for j in range(8) %>
                let place${ j } = min(b * 8u + ${ j }u, k4 - 1u);
                var v_${ j } = select(vec4<f32>(), x[token * k4 + place${ j }], b * 8u + ${ j }u < k4);
<%- endfor %>
                if normalize {
<%- for j in range(8) %>
                    square += dot(v_${ j }, v_${ j });
                    v_${ j } *= gain[place${ j }];
<%- endfor %>
                }
<%- if offset %>
                let sum_lower = (v_0 + v_1) + (v_2 + v_3);
                let sum_upper = (v_4 + v_5) + (v_6 + v_7);
                let lower = (sum_lower.x + sum_lower.y) + (sum_lower.z + sum_lower.w);
                let upper = (sum_upper.x + sum_upper.y) + (sum_upper.z + sum_upper.w);
<%- endif %>
<%- if offset or scheme == "q8_0" %>
<%- for j in range(8) %>
                v_${ j } *= ${ panel.spread(scheme) };
<%- endfor %>
<%- endif %>
${ panel.loads(scheme, "w", "block", "row") }
<%- for (name, first) in [("part0", 0), ("rest0", 4)] %>
                var ${ name } = 0.0;
<%- for j in range(first, first + 4) %>
                ${ name } += dot(${ panel.four(scheme, "w", j) }, v_${ j });
<%- endfor %>
<%- endfor %>
<%- if quantized %>
${ panel.scale(scheme, "d", "block", "wide", "part", "row") }
<%- if split %>
                sum += (d.x * part0 + d_rest.x * rest0) + (d.y * lower + d_rest.y * upper);
<%- elif offset %>
                sum += d.x * (part0 + rest0) + d.y * (lower + upper);
<%- else %>
                sum += d.x * (part0 + rest0);
<%- endif %>
<%- else %>
                sum += part0 + rest0;
<%- endif %>
            }
        }
        let squares = subgroupAdd(select(0.0, square, which == 0u));
<%- for r in range(4) %>
        let sum${ r } = subgroupAdd(select(0.0, sum, which == ${ r }u));
<%- endfor %>
        if lane == 0u && quad < 8u {
            var factor = 1.0;
            if normalize {
                factor = inverseSqrt(squares / f32(params.columns) + params.epsilon);
            }
            let first = 2u * quad;
            if (params.flags & 8u) != 0u {
                finish_pair(token, panel * 16u + first, panel * 32u + first, factor * sum0, factor * sum2);
                finish_pair(token, panel * 16u + first + 1u, panel * 32u + first + 1u, factor * sum1, factor * sum3);
            } else {
<%- for r in range(4) %>
                finish(token, panel * 32u + first + ${ r % 2 + 16 * (r // 2) }u, factor * sum${ r });
<%- endfor %>
            }
        }
    }
<%- endmacro %>
