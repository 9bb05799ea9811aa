<#- Reading panels of weights: 32 rows by blocks of 32 columns, as `panel.rs` lays them out, whatever their storage. -#>
<% macro vectors(scheme) -%>
${ {"f32": 8, "f16": 4, "bf16": 4, "q8_0": 2}[scheme] or 1 }
<%- endmacro %>

<% macro words(scheme) -%>
array<vec4<<% if scheme == "f32" %>f32<% else %>u32<% endif %>>>
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
<%- else %>
        let ${ into }_p = w[${ block } * 32u + ${ row }];
<%- if scheme in ["q5_0", "q5_1"] %>
        let ${ into }_high = high[${ block } * 32u + ${ row }];
<%- endif %>
<%- for c in range(4) %>
<%- for half in range(2) %>
        let ${ into }_${ 2 * c + half } = vec4<f32>(
            ((vec4<u32>(${ into }_p.${ "xyzw"[c] }) >> vec4<u32>(${ 4 * half }u, ${ 4 * half + 8 }u, ${ 4 * half + 16 }u, ${ 4 * half + 24 }u)) & vec4<u32>(15u))
<%- if scheme in ["q5_0", "q5_1"] %>
            | (((vec4<u32>(${ into }_high) >> vec4<u32>(${ 8 * c + 4 * half }u, ${ 8 * c + 4 * half + 1 }u, ${ 8 * c + 4 * half + 2 }u, ${ 8 * c + 4 * half + 3 }u)) & vec4<u32>(1u)) << vec4<u32>(4u))
<%- endif %>
        )<% if scheme == "q4_0" %> - 8.0<% elif scheme == "q5_0" %> - 16.0<% endif %>;
<%- endfor %>
<%- endfor %>
<%- endif %>
<%- endmacro %>

<% macro scale(scheme, into, block, row) -%>
<#- Declares `${ into }`: the scale of row `${ row }` in block `${ block }`, and where the scheme has one its offset, as a pair. -#>
<%- if scheme in ["q8_0", "q4_0", "q5_0"] %>
        let ${ into }_word = unpack2x16float(scale[${ block } * 16u + (${ row } & 15u)]);
        let ${ into } = vec2<f32>(select(${ into }_word.x, ${ into }_word.y, ${ row } >= 16u), 0.0);
<%- else %>
        let ${ into } = unpack2x16float(scale[${ block } * 32u + ${ row }]);
<%- endif %>
<%- endmacro %>
