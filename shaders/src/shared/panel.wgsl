<#- Reading panels of weights: 32 rows by blocks of 32 columns, as `panel.rs` lays them out, whatever their storage. -#>
<#- Schemes that are f32, f16 or bf16 have one tensor; the others have a scale, some with offsets, and some further bits. -#>
<% macro tensors(scheme) -%>
<% if scheme in ["f32", "f16", "bf16"] %>1<% elif scheme in ["q5_0", "q5_1", "q3_k", "q5_k", "q6_k"] %>3<% else %>2<% endif %>
<%- endmacro %>

<% macro bindings(scheme, first, subgroups=false, packed=false) -%>
<#- Declares the tensors of a matrix from binding `first` on, and what reads them, as bytes if `packed`. -#>
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

<%- if subgroups %>
// The two 16-bit floats of a word. The software adapters that these variants are for keep subnormal numbers.
fn halves(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}
<%- else %>
// The two 16-bit floats of a word; small ones from their digits, because drivers may take subnormal numbers for zero.
fn halves(word: u32) -> vec2<f32> {
    let bits = vec2<u32>(word & 0xffffu, word >> 16u);
    let small = vec2<f32>(bits & vec2<u32>(0x3ffu)) * 5.9604644775390625e-8;
    let signed = select(small, -small, bits >= vec2<u32>(0x8000u));
    return select(unpack2x16float(word), signed, (bits & vec2<u32>(0x7c00u)) == vec2<u32>());
}
<%- endif %>
<%- endif %>
<%- if packed and scheme in ["iq4_nl", "iq4_xs", "mxfp4"] %>
<%- set table = ["0x03020100u", "0x0c080604u", "0xfdfeff00u", "0xf4f8fafcu"] if scheme == "mxfp4" else ["0xbfad9881u", "0xf6eaddcfu", "0x26190d01u", "0x71594535u"] %>

// The levels of the numbers in the lower halves of four bytes, from a table of 16 signed bytes in four words.
fn level_bytes(q: u32) -> u32 {
    let four = (vec4<u32>(q) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(15u);
    let odd = (four & vec4<u32>(4u)) != vec4<u32>();
    let lower = select(vec4<u32>(${ table[0] }), vec4<u32>(${ table[1] }), odd);
    let upper = select(vec4<u32>(${ table[2] }), vec4<u32>(${ table[3] }), odd);
    let bytes = (select(lower, upper, four >= vec4<u32>(8u)) >> (8u * (four & vec4<u32>(3u)))) & vec4<u32>(255u);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
<%- elif scheme in ["iq4_nl", "iq4_xs"] %>

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
<#- Loads the 32 weights of row `${ row }` in block `${ block }`, of which `four` and `bytes` then make numbers. -#>
<%- if scheme == "f32" %>
<%- for v in range(8) %>
        let ${ into }_p${ v } = w[(${ block } * 8u + ${ v }u) * 32u + ${ row }];
<%- endfor %>
<%- elif scheme in ["f16", "bf16"] %>
<%- for v in range(4) %>
        let ${ into }_p${ v } = w[(${ block } * 4u + ${ v }u) * 32u + ${ row }];
<%- endfor %>
<%- elif scheme == "q8_0" %>
<%- for v in range(2) %>
        let ${ into }_p${ v } = w[(${ block } * 2u + ${ v }u) * 32u + ${ row }];
<%- endfor %>
<%- else %>
        let ${ into }_p = w[${ block } * 32u + ${ row }];
<%- if scheme in ["q5_0", "q5_1", "q3_k", "q5_k", "q6_k"] %>
        let ${ into }_high = high[${ block } * 32u + ${ row }];
<%- endif %>
<%- endif %>
<%- endmacro %>

<% macro half_loads(scheme, into, block, half, row) -%>
<#- As `loads`, of the 16 weights of the first or the second half of the block, 0 or 1, which `four` then counts from 0. -#>
<%- if scheme == "f32" %>
<%- for v in range(4) %>
        let ${ into }_p${ v } = w[(${ block } * 8u + 4u * ${ half } + ${ v }u) * 32u + ${ row }];
<%- endfor %>
<%- elif scheme in ["f16", "bf16"] %>
<%- for v in range(2) %>
        let ${ into }_p${ v } = w[(${ block } * 4u + 2u * ${ half } + ${ v }u) * 32u + ${ row }];
<%- endfor %>
<%- elif scheme == "q8_0" %>
        let ${ into }_p0 = w[(${ block } * 2u + ${ half }) * 32u + ${ row }];
<%- elif scheme in ["q2_k", "q3_k"] %>
        let ${ into }_p = vec2<u32>(w[${ block } * 32u + ${ row }][${ half }], 0u);
<%- else %>
        let ${ into }_all = w[${ block } * 32u + ${ row }];
        let ${ into }_p = vec4<u32>(select(${ into }_all.xy, ${ into }_all.zw, ${ half } == 1u), 0u, 0u);
<%- endif %>
<%- if scheme == "q6_k" %>
        let ${ into }_high = vec2<u32>(high[${ block } * 32u + ${ row }][${ half }], 0u);
<%- elif scheme in ["q5_0", "q5_1", "q3_k", "q5_k"] %>
        let ${ into }_high = high[${ block } * 32u + ${ row }] >> (16u * ${ half });
<%- endif %>
<%- endmacro %>

<% macro word(scheme, into, c, clean) -%>
<#- Four whole numbers as the bytes of a word: columns `4 c` to `4 c + 3`. What a byte holds above them is not zero unless `clean`. -#>
<%- if scheme == "q2_k" -%>
(${ into }_p.${ "xy"[c // 4] } >> ${ c % 4 * 2 }u)
<%- elif scheme == "q3_k" -%>
((${ into }_p.${ "xy"[c // 4] } >> ${ c % 4 * 2 }u) & 0x03030303u) | (((((${ into }_high >> ${ 4 * c }u) & 15u) * 0x00204081u) & 0x01010101u) << 2u)
<%- elif scheme in ["q5_0", "q5_1", "q5_k"] -%>
((${ into }_p.${ "xyzw"[c // 2] } >> ${ c % 2 * 4 }u) & 0x0f0f0f0fu) | (((((${ into }_high >> ${ 4 * c }u) & 15u) * 0x00204081u) & 0x01010101u) << 4u)
<%- elif scheme == "q6_k" -%>
((${ into }_p.${ "xyzw"[c // 2] } >> ${ c % 2 * 4 }u) & 0x0f0f0f0fu) | (((${ into }_high.${ "xy"[c // 4] } >> ${ c % 4 * 2 }u) & 0x03030303u) << 4u)
<%- else -%>
(${ into }_p.${ "xyzw"[c // 2] } >> ${ c % 2 * 4 }u)
<%- endif -%>
<%- if clean and scheme in ["q2_k", "q4_0", "q4_1", "q4_k"] %> & 0x0${ "3" if scheme == "q2_k" else "f" }0${ "3" if scheme == "q2_k" else "f" }0${ "3" if scheme == "q2_k" else "f" }0${ "3" if scheme == "q2_k" else "f" }u<% endif -%>
<%- endmacro %>

<% macro four(scheme, into, c) -%>
<#- The weights of columns `4 c` to `4 c + 3` without scale and zero, each to be multiplied by its factor of `spread`: numbers are not
    moved down to the lowest bits of their words, which saves an operation a weight. -#>
<%- if scheme == "f32" -%>
${ into }_p${ c }
<%- elif scheme == "f16" -%>
vec4<f32>(unpack2x16float(${ into }_p${ c // 2 }.${ "xz"[c % 2] }), unpack2x16float(${ into }_p${ c // 2 }.${ "yw"[c % 2] }))
<%- elif scheme == "bf16" -%>
<%- set low = into ~ "_p" ~ (c // 2) ~ "." ~ "xz"[c % 2] -%>
<%- set high = into ~ "_p" ~ (c // 2) ~ "." ~ "yw"[c % 2] -%>
bitcast<vec4<f32>>(vec4<u32>(${ low } << 16u, ${ low } & 0xffff0000u, ${ high } << 16u, ${ high } & 0xffff0000u))
<%- elif scheme == "q8_0" -%>
vec4<f32>(bitcast<vec4<i32>>((vec4<u32>(${ into }_p${ c // 4 }.${ "xyzw"[c % 4] }) << vec4<u32>(24u, 16u, 8u, 0u)) & vec4<u32>(0xff000000u)))
<%- elif scheme in ["iq4_nl", "iq4_xs", "mxfp4"] -%>
levels((vec4<u32>(${ into }_p.${ "xyzw"[c // 2] }) >> vec4<u32>(${ c % 2 * 4 }u, ${ c % 2 * 4 + 8 }u, ${ c % 2 * 4 + 16 }u, ${ c % 2 * 4 + 24 }u)) & vec4<u32>(15u))
<%- else -%>
<%- set mask = ({"q2_k": "3", "q3_k": "7", "q5_0": "1f", "q5_1": "1f", "q5_k": "1f", "q6_k": "3f"}[scheme] | default("f")) -%>
vec4<f32>(vec4<i32>(vec4<u32>(${ word(scheme, into, c, false) }) & vec4<u32>(0x${ mask }u, 0x${ mask }00u, 0x${ mask }0000u, 0x${ mask }000000u)))
<%- endif -%>
<%- endmacro %>

<% macro four_f16(scheme, into, c) -%>
<#- The weights of columns `4 c` to `4 c + 3` as whole numbers in 16-bit floats, without scale; exact. -#>
<%- if scheme == "q8_0" -%>
vec4<f16>(bitcast<vec4<i32>>(vec4<u32>(${ into }_p${ c // 4 }.${ "xyzw"[c % 4] }) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u))
<%- elif scheme in ["iq4_nl", "iq4_xs", "mxfp4"] -%>
vec4<f16>(${ four(scheme, into, c) })
<%- else -%>
<%- set mask = ({"q2_k": "3", "q3_k": "7", "q5_0": "1f", "q5_1": "1f", "q5_k": "1f", "q6_k": "3f"}[scheme] | default("f")) -%>
vec4<f16>((vec4<u32>(${ word(scheme, into, c, false) }) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0x${ mask }u))
<%- set zero = ({"q4_0": 8, "q5_0": 16, "q3_k": 4, "q6_k": 32}[scheme] | default(0)) -%>
<%- if zero %> - vec4<f16>(${ zero }.0)<% endif -%>
<%- endif -%>
<%- endmacro %>

<% macro spread(scheme) -%>
<#- What four neighbouring columns of the input are multiplied by to fit the weights as `four` gives them; powers of two, so that it is exact. -#>
<% if scheme == "q8_0" %>vec4<f32>(0x1p-24)<% else %>vec4<f32>(1.0, 0x1p-8, 0x1p-16, 0x1p-24)<% endif %>
<%- endmacro %>

<% macro bytes(scheme, into, c) -%>
<#- The weights of columns `4 c` to `4 c + 3` as signed bytes, without the zero of schemes that have one, and `fraction` times too large. -#>
<%- if scheme == "q8_0" -%>
${ into }_p${ c // 4 }.${ "xyzw"[c % 4] }
<%- elif scheme == "q4_0" -%>
((${ into }_p.${ "xyzw"[c // 2] } ^ 0x88888888u)<% if c % 2 == 0 %> << 4u<% endif %>) & 0xf0f0f0f0u
<%- elif scheme in ["iq4_nl", "iq4_xs", "mxfp4"] -%>
level_bytes(${ word(scheme, into, c, false) })
<%- elif scheme in ["q5_0", "q6_k", "q3_k"] -%>
((${ word(scheme, into, c, true) }) << ${ {"q5_0": 3, "q6_k": 2, "q3_k": 5}[scheme] }u) ^ 0x80808080u
<%- else -%>
${ word(scheme, into, c, true) }
<%- endif -%>
<%- endmacro %>

<% macro fraction(scheme) -%>
<#- What products with `bytes` are multiplied by. -#>
${ ({"q4_0": "0.0625", "q5_0": "0.125", "q6_k": "0.25", "q3_k": "0.03125"}[scheme] | default("1.0")) }
<%- endmacro %>

<% macro pair(scheme) -%>
<#- What a scale is multiplied by to give scale and offset: minus the number that stands for zero. -#>
<% set zero = ({"q4_0": 8, "q5_0": 16, "q3_k": 4, "q6_k": 32}[scheme] | default(0)) -%>
vec2<f32>(1.0, <% if zero %>-${ zero }.0<% else %>0.0<% endif %>)
<%- endmacro %>

<% macro scale(scheme, into, block, wide, part, row) -%>
<#- Declares `${ into }`: the scale of row `${ row }` in block `${ block }`, which is block `${ part }` of super-block `${ wide }`, and its
    offset, which is zero where the scheme has none, as a pair. Where halves of a block differ that is for the first 16 columns, and
    `${ into }_rest` for the others. -#>
<%- if scheme in ["q8_0", "q4_0", "q5_0", "iq4_nl"] %>
        let ${ into } = halves(scale[${ block } * 16u + (${ row } & 15u)] >> (${ row } & 16u)).x * ${ pair(scheme) };
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
        let ${ into } = ${ into }_both.x * ${ pair(scheme) };
        let ${ into }_rest = ${ into }_both.y * ${ pair(scheme) };
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
        let ${ into } = (${ into }_d.x * f32(bitcast<i32>(${ into }_bytes << 24u) >> 24u)) * ${ pair(scheme) };
        let ${ into }_rest = (${ into }_d.x * f32(bitcast<i32>(${ into }_bytes << 16u) >> 24u)) * ${ pair(scheme) };
<%- endif %>
<%- endif %>
<%- endmacro %>

<% macro two_scales(scheme, into, block, wide, part, row) -%>
<#- `scale` of row `${ row }`, one of the first 16, and of the row 16 further, as `${ into }0` and `${ into }1`. -#>
<%- if scheme in ["q8_0", "q4_0", "q5_0", "iq4_nl"] %>
        let ${ into }01 = halves(scale[${ block } * 16u + ${ row }]);
        let ${ into }0 = ${ into }01.x * ${ pair(scheme) };
        let ${ into }1 = ${ into }01.y * ${ pair(scheme) };
<%- else %>
<%- for r in range(2) %>
${ scale(scheme, into ~ r, block, wide, part, "(" ~ row ~ " + " ~ 16 * r ~ "u)") }
<%- endfor %>
<%- endif %>
<%- endmacro %>

<% macro scales(scheme, into, block, wide, part, row) -%>
<#- `scale` of the rows `${ row }`, 8, 16 and 24 further, as `${ into }0` to `${ into }3`; a row that shares a word is not loaded twice. -#>
<%- if scheme in ["q8_0", "q4_0", "q5_0", "iq4_nl"] %>
        let ${ into }02 = halves(scale[${ block } * 16u + ${ row }]);
        let ${ into }13 = halves(scale[${ block } * 16u + ${ row } + 8u]);
<%- for r in range(4) %>
        let ${ into }${ r } = ${ into }${ "02" if r % 2 == 0 else "13" }.${ "xy"[r // 2] } * ${ pair(scheme) };
<%- endfor %>
<%- elif scheme == "mxfp4" %>
        let ${ into }_e = (vec4<u32>(scale[${ block } * 8u + ${ row }]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
        let ${ into }_d = bitcast<vec4<f32>>(select((${ into }_e - 1u) << vec4<u32>(23u), vec4<u32>(0x200000u) << (${ into }_e & vec4<u32>(1u)), ${ into }_e < vec4<u32>(2u)));
<%- for r in range(4) %>
        let ${ into }${ r } = vec2<f32>(${ into }_d.${ "xyzw"[r] }, 0.0);
<%- endfor %>
<%- else %>
<%- for r in range(4) %>
${ scale(scheme, into ~ r, block, wide, part, "(" ~ row ~ " + " ~ 8 * r ~ "u)") }
<%- endfor %>
<%- endif %>
<%- endmacro %>
