<#- Reading panels of weights: 32 rows by blocks of 32 columns, as `panel.rs` lays them out, whatever their storage. -#>
<#- Schemes that are f32, f16 or bf16 have one tensor; the others have a scale, some with offsets, and some further bits. -#>
<% macro tensors(scheme) -%>
<% if scheme in ["f32", "f16", "bf16"] %>1<% elif scheme in ["q5_0", "q5_1", "q3_k", "q5_k", "q6_k"] %>3<% else %>2<% endif %>
<%- endmacro %>

<% macro bindings(scheme, first) -%>
<#- Declares the tensors of a matrix from binding `first` on, and what reads them. -#>
// [n, k] in panels
@group(0) @binding(${ first }) var<storage, read> w: array<<% if scheme == "f32" %>vec4<f32><% elif scheme in ["q2_k", "q3_k"] %>vec2<u32><% else %>vec4<u32><% endif %>>;
<%- if scheme in ["q5_0", "q5_1", "q3_k", "q5_k", "q6_k"] %>
// the highest bits
@group(0) @binding(${ first + 1 }) var<storage, read> high: array<<% if scheme == "q6_k" %>vec2<u32><% else %>u32<% endif %>>;
<%- endif %>
<%- if scheme not in ["f32", "f16", "bf16"] %>
// scales, and for some schemes offsets, of the blocks of a row
@group(0) @binding(${ first + (2 if scheme in ["q5_0", "q5_1", "q3_k", "q5_k", "q6_k"] else 1) }) var<storage, read> scale: array<
<%- if scheme in ["q3_k", "q4_k", "q5_k"] %>vec4<u32><% elif scheme == "iq4_xs" %>vec2<u32><% else %>u32<% endif %>>;
<%- endif %>
<%- if scheme not in ["f32", "f16", "bf16", "mxfp4"] %>

// The two 16-bit floats of a word; small ones from their digits, because drivers may take subnormal numbers for zero.
fn halves(word: u32) -> vec2<f32> {
    let bits = vec2<u32>(word & 0xffffu, word >> 16u);
    let small = vec2<f32>(bits & vec2<u32>(0x3ffu)) * 5.9604644775390625e-8;
    let signed = select(small, -small, bits >= vec2<u32>(0x8000u));
    return select(unpack2x16float(word), signed, (bits & vec2<u32>(0x7c00u)) == vec2<u32>());
}
<%- endif %>
<%- if scheme in ["iq4_nl", "iq4_xs"] %>

// The levels of four numbers, from a table of 16 signed bytes in four words.
fn levels(q: vec4<u32>) -> vec4<f32> {
    let odd = (q & vec4<u32>(4u)) != vec4<u32>();
    let lower = select(vec4<u32>(0xbfad9881u), vec4<u32>(0xf6eaddcfu), odd);
    let upper = select(vec4<u32>(0x26190d01u), vec4<u32>(0x71594535u), odd);
    let word = select(lower, upper, q >= vec4<u32>(8u));
    return vec4<f32>(bitcast<vec4<i32>>(word << (24u - 8u * (q & vec4<u32>(3u)))) >> vec4<u32>(24u));
}
<%- elif scheme == "mxfp4" %>

// Twice what four 4-bit floats are: a sign, and a choice among 0, 1, 2, 3, 4, 6, 8, 12.
fn levels(q: vec4<u32>) -> vec4<f32> {
    let size = vec4<f32>((vec4<u32>(0xc8643210u) >> (4u * (q & vec4<u32>(7u)))) & vec4<u32>(15u));
    return select(size, -size, q >= vec4<u32>(8u));
}
<%- endif %>
<%- endmacro %>

<% macro loads(scheme, into, block, row) -%>
<#- Declares `${ into }_0` to `${ into }_7`: the 32 weights of row `${ row }` in block `${ block }`, without their scale. -#>
<%- if scheme == "f32" %>
<%- for v in range(8) %>
        let ${ into }_${ v } = w[(${ block } * 8u + ${ v }u) * 32u + ${ row }];
<%- endfor %>
<%- elif scheme in ["f16", "bf16"] %>
<%- for v in range(4) %>
        let ${ into }_p${ v } = w[(${ block } * 4u + ${ v }u) * 32u + ${ row }];
<%- for (half, low, high) in [(0, "x", "y"), (1, "z", "w")] %>
<%- if scheme == "f16" %>
        let ${ into }_${ 2 * v + half } = vec4<f32>(unpack2x16float(${ into }_p${ v }.${ low }), unpack2x16float(${ into }_p${ v }.${ high }));
<%- else %>
        let ${ into }_${ 2 * v + half } = bitcast<vec4<f32>>(vec4<u32>(
            ${ into }_p${ v }.${ low } << 16u, ${ into }_p${ v }.${ low } & 0xffff0000u,
            ${ into }_p${ v }.${ high } << 16u, ${ into }_p${ v }.${ high } & 0xffff0000u,
        ));
<%- endif %>
<%- endfor %>
<%- endfor %>
<%- elif scheme == "q8_0" %>
<%- for v in range(2) %>
        let ${ into }_p${ v } = bitcast<vec4<i32>>(w[(${ block } * 2u + ${ v }u) * 32u + ${ row }]);
<%- for c in range(4) %>
        let ${ into }_${ 4 * v + c } = vec4<f32>((vec4<i32>(${ into }_p${ v }.${ "xyzw"[c] }) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
<%- endfor %>
<%- endfor %>
<%- elif scheme in ["q2_k", "q3_k"] %>
        let ${ into }_p = w[${ block } * 32u + ${ row }];
<%- if scheme == "q3_k" %>
        let ${ into }_high = high[${ block } * 32u + ${ row }];
<%- endif %>
<%- for c in range(8) %>
        let ${ into }_${ c } = vec4<f32>(
            ((vec4<u32>(${ into }_p.${ "xy"[c // 4] }) >> vec4<u32>(${ c % 4 * 2 }u, ${ c % 4 * 2 + 8 }u, ${ c % 4 * 2 + 16 }u, ${ c % 4 * 2 + 24 }u)) & vec4<u32>(3u))
<%- if scheme == "q3_k" %>
            | (((vec4<u32>(${ into }_high) >> vec4<u32>(${ 4 * c }u, ${ 4 * c + 1 }u, ${ 4 * c + 2 }u, ${ 4 * c + 3 }u)) & vec4<u32>(1u)) << vec4<u32>(2u))
<%- endif %>
        )<% if scheme == "q3_k" %> - 4.0<% endif %>;
<%- endfor %>
<%- else %>
        let ${ into }_p = w[${ block } * 32u + ${ row }];
<%- if scheme in ["q5_0", "q5_1", "q5_k", "q6_k"] %>
        let ${ into }_high = high[${ block } * 32u + ${ row }];
<%- endif %>
<%- for c in range(8) %>
<%- set low = c % 2 * 4 %>
        let ${ into }_${ c } = <% if scheme in ["iq4_nl", "iq4_xs", "mxfp4"] %>levels<% else %>vec4<f32><% endif %>(
            ((vec4<u32>(${ into }_p.${ "xyzw"[c // 2] }) >> vec4<u32>(${ low }u, ${ low + 8 }u, ${ low + 16 }u, ${ low + 24 }u)) & vec4<u32>(15u))
<%- if scheme in ["q5_0", "q5_1", "q5_k"] %>
            | (((vec4<u32>(${ into }_high) >> vec4<u32>(${ 4 * c }u, ${ 4 * c + 1 }u, ${ 4 * c + 2 }u, ${ 4 * c + 3 }u)) & vec4<u32>(1u)) << vec4<u32>(4u))
<%- elif scheme == "q6_k" %>
            | (((vec4<u32>(${ into }_high.${ "xy"[c // 4] }) >> vec4<u32>(${ c % 4 * 2 }u, ${ c % 4 * 2 + 8 }u, ${ c % 4 * 2 + 16 }u, ${ c % 4 * 2 + 24 }u)) & vec4<u32>(3u)) << vec4<u32>(4u))
<%- endif %>
        )<% if scheme == "q4_0" %> - 8.0<% elif scheme == "q5_0" %> - 16.0<% elif scheme == "q6_k" %> - 32.0<% endif %>;
<%- endfor %>
<%- endif %>
<%- endmacro %>

<% macro scale(scheme, into, block, wide, part, row) -%>
<#- Declares `${ into }`: the scale of row `${ row }` in block `${ block }`, which is block `${ part }` of super-block `${ wide }`, and where
    the scheme has one its offset, as a pair. Where halves of a block differ that is for the first 16 columns, and `${ into }_rest` for the others. -#>
<%- if scheme in ["q8_0", "q4_0", "q5_0", "iq4_nl"] %>
        let ${ into } = vec2<f32>(halves(scale[${ block } * 16u + (${ row } & 15u)] >> (${ row } & 16u)).x, 0.0);
<%- elif scheme in ["q4_1", "q5_1"] %>
        let ${ into } = halves(scale[${ block } * 32u + ${ row }]);
<%- elif scheme == "mxfp4" %>
        let ${ into }_e = (scale[${ block } * 8u + (${ row } & 7u)] >> (${ row } & 24u)) & 255u;
        let ${ into } = vec2<f32>(bitcast<f32>(select((${ into }_e - 1u) << 23u, 0x200000u << (${ into }_e & 1u), ${ into }_e < 2u)), 0.0);
<%- elif scheme == "iq4_xs" %>
        let ${ into }_v = scale[${ wide } * 32u + ${ row }];
        let ${ into }_six = ((${ into }_v.y >> (4u * ${ part })) & 15u) | (((${ into }_v.x >> (16u + 2u * ${ part })) & 3u) << 4u);
        let ${ into } = vec2<f32>(halves(${ into }_v.x).x * (f32(${ into }_six) - 32.0), 0.0);
<%- elif scheme in ["q3_k", "q4_k", "q5_k"] %>
        let ${ into }_v = scale[${ wide } * 32u + ${ row }];
        let ${ into }_low = select(${ into }_v.y, ${ into }_v.z, ${ part } >= 4u) >> (8u * (${ part } & 3u));
        let ${ into }_high = ${ into }_v.w >> (4u * ${ part });
        let ${ into }_six = vec2<f32>(
            ((vec2<u32>(${ into }_low) >> vec2<u32>(0u, 4u)) & vec2<u32>(15u)) | (((vec2<u32>(${ into }_high) >> vec2<u32>(0u, 2u)) & vec2<u32>(3u)) << vec2<u32>(4u))
        );
<%- if scheme == "q3_k" %>
        let ${ into }_both = halves(${ into }_v.x).x * (${ into }_six - 32.0);
        let ${ into } = vec2<f32>(${ into }_both.x, 0.0);
        let ${ into }_rest = vec2<f32>(${ into }_both.y, 0.0);
<%- else %>
        let ${ into } = halves(${ into }_v.x) * ${ into }_six * vec2<f32>(1.0, -1.0);
<%- endif %>
<%- else %>
        let ${ into }_d = halves(scale[${ wide } * 160u + ${ row }]);
        let ${ into }_bytes = scale[${ wide } * 160u + (1u + ${ part } / 2u) * 32u + ${ row }] >> (16u * (${ part } & 1u));
<%- if scheme == "q2_k" %>
        let ${ into }_fours = vec4<f32>((vec4<u32>(${ into }_bytes) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u));
        let ${ into } = ${ into }_d * ${ into }_fours.xy * vec2<f32>(1.0, -1.0);
        let ${ into }_rest = ${ into }_d * ${ into }_fours.zw * vec2<f32>(1.0, -1.0);
<%- else %>
        let ${ into } = vec2<f32>(${ into }_d.x * f32(bitcast<i32>(${ into }_bytes << 24u) >> 24u), 0.0);
        let ${ into }_rest = vec2<f32>(${ into }_d.x * f32(bitcast<i32>(${ into }_bytes << 16u) >> 24u), 0.0);
<%- endif %>
<%- endif %>
<%- endmacro %>
