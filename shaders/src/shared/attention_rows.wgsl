<#- The part of `attention` in which a lane owns two rows: keys and values are loaded by all lanes of a subgroup together and broadcast, so that a load
    serves sixteen rows. Queries and sums lie in arrays, of whose places some are found at run time, so that compilers keep them in memory; in short ones, because the
    time that older compilers take grows with the square of an array's uses. -#>

# macro body(D4, SG, cache, part)
    // Column c + l of a lane's row p, l below SG: its query at queries_p_c[l], its sum at sums_p_c[l].
# for p in range(2)
# for c in range(0, D4, SG)
    var queries${ p }_${ c }: array<vec4<f32>, ${ SG }>;
    var sums${ p }_${ c }: array<vec4<f32>, ${ SG }>;
# endfor
# endfor
# for p in range(2)
    let row${ p } = row_of(min(first + lane + ${ p * SG }u, rows - 1u), key_head);
    let end${ p } = min(row${ p }.seen.last, span.last);
# for c in range(0, D4, SG)
    for (var l = 0u; ${ c }u + l < min(${ c + SG }u, d4); l++) {
        queries${ p }_${ c }[l] = q[row${ p }.query + ${ c }u + l];
    }
# endfor
    var top${ p } = LOWEST;
    var total${ p } = 0.0;
# endfor
    const each = vec4<u32>(0u, 1u, 2u, 3u);
    for (var base = span.first; base < span.last; base += 4u) {
        // Not a constant, so that no driver writes the loops out.
        let count = min(4u, span.last - base);
        var scored0 = vec4<f32>();
        var scored1 = vec4<f32>();
        for (var j = 0u; j < count; j++) {
            let key = place(base + j, key_head);
            var sum0 = 0.0;
            var sum1 = 0.0;
# for c in range(0, D4, SG)
            if ${ c }u < d4 {
                let part = load_keys(key + min(${ c }u + lane, d4 - 1u));
# for l in range(SG)
                let key${ l } = subgroupBroadcast(part, ${ l }u);
                sum0 += dot(queries0_${ c }[${ l }], key${ l });
                sum1 += dot(queries1_${ c }[${ l }], key${ l });
# endfor
            }
# endfor
            scored0 = select(scored0, vec4<f32>(sum0), each == vec4<u32>(j));
            scored1 = select(scored1, vec4<f32>(sum1), each == vec4<u32>(j));
        }
# if cache == "q8"
        let scale = place(base + min(lane % 4u, count - 1u), key_head) - 1u;
# for name in ["keys", "values"]
        let of_${ name } = bitcast<f32>(${ name }[scale]);
        let ${ name }_scales = vec4<f32>(
# for l in range(4)
            subgroupBroadcast(of_${ name }, ${ l }u),
# endfor
        );
# endfor
        scored0 *= keys_scales;
        scored1 *= keys_scales;
# endif
        let number = vec4<u32>(base) + each;
# for p in range(2)
        let scores${ p } = bounded(scored${ p });
        let seen${ p } = (number >= vec4<u32>(row${ p }.seen.first)) & (number < vec4<u32>(end${ p }));
        let masked${ p } = select(vec4<f32>(LOWEST), scores${ p }, seen${ p });
        let peak${ p } = max(top${ p }, max(max(masked${ p }.x, masked${ p }.y), max(masked${ p }.z, masked${ p }.w)));
        var weights${ p } = select(vec4<f32>(), exp(min(scores${ p } - peak${ p }, vec4<f32>())), seen${ p });
        let shrink${ p } = exp(top${ p } - peak${ p });
        top${ p } = peak${ p };
        total${ p } = total${ p } * shrink${ p } + ((weights${ p }.x + weights${ p }.y) + (weights${ p }.z + weights${ p }.w));
# if cache == "q8"
        weights${ p } *= values_scales;
# endif
# for c in range(0, D4, SG)
# for l in range(SG)
        sums${ p }_${ c }[${ l }] *= shrink${ p };
# endfor
# endfor
# endfor
        for (var j = 0u; j < count; j++) {
            let value = place(base + j, key_head);
# for p in range(2)
            let picked${ p } = select(vec4<f32>(), weights${ p }, each == vec4<u32>(j));
            let weight${ p } = (picked${ p }.x + picked${ p }.y) + (picked${ p }.z + picked${ p }.w);
# endfor
# for c in range(0, D4, SG)
            if ${ c }u < d4 {
                let part = load_values(value + min(${ c }u + lane, d4 - 1u));
# for l in range(SG)
                let value${ l } = subgroupBroadcast(part, ${ l }u);
                sums0_${ c }[${ l }] += weight0 * value${ l };
                sums1_${ c }[${ l }] += weight1 * value${ l };
# endfor
            }
# endfor
        }
    }
# for p in range(2)
    if first + lane + ${ p * SG }u < rows {
        let share${ p } = 1.0 / max(total${ p }, 1.0e-30);
        let to${ p } = ${ "part_of(row" ~ p ~ ".query, section)" if part else "row" ~ p ~ ".query" };
# for c in range(0, D4, SG)
        for (var l = 0u; ${ c }u + l < min(${ c + SG }u, d4); l++) {
            y[to${ p } + ${ c }u + l] = sums${ p }_${ c }[l] * share${ p };
        }
# endfor
# if part
        store_mass(row${ p }.query, section, top${ p }, total${ p });
# endif
    }
# endfor
# endmacro
