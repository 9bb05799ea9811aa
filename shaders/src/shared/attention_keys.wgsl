<#- The part of `attention` for software adapters in which an invocation owns every WG-th key for R rows: nothing is exchanged until the end, and
    each load of a key or value serves R rows. Loads are what such adapters spend most code on, so a round's loops hold eight each. Queries, sums and scores
    lie in one array, of whose places some are found at run time, so that compilers keep it in memory: in registers it would be moved about
    between the loads, and compiling took several times as long. -#>
# set ROUND = 32

# macro shared(R, D4, WG)
// Of each invocation: its largest scores, its sums of exponentials, its sums of a row's values.
var<workgroup> tops: array<vec4<f32>, ${ WG }>;
var<workgroup> totals: array<vec4<f32>, ${ WG }>;
var<workgroup> shares: array<vec4<f32>, ${ WG * (D4 + 1) }>;
# endmacro

# macro body(R, D4, WG, cache, part)
# set of = "xyzw"
# set SCORES = 8 * D4
    // Column c of row r: its query at 8 c + r, its sum at 8 c + 4 + r; then the scores of a round, later its weights.
    var own: array<vec4<f32>, ${ SCORES + ROUND }>;
# for r in range(R)
    let row${ r } = row_of(min(first + ${ r }u, rows - 1u), key_head);
    for (var c = 0u; c < d4; c++) {
        own[8u * c + ${ r }u] = q[row${ r }.query + c];
    }
# endfor
# set fourth = R - 1
    let begins = vec4<u32>(row0.seen.first, row1.seen.first, row2.seen.first, row${ fourth }.seen.first);
    let ends = min(vec4<u32>(row0.seen.last, row1.seen.last, row2.seen.last, row${ fourth }.seen.last), vec4<u32>(span.last));
    var top = vec4<f32>(LOWEST);
    var total = vec4<f32>();
    for (var base = span.first + lane; base < span.last; base += ${ ROUND * WG }u) {
        // Not a constant, so that no driver writes the loops out.
        let count = min(${ ROUND }u, (span.last - base + ${ WG - 1 }u) / ${ WG }u);
        var peak = top;
# for part_of_columns in range(0, D4, 8)
        for (var j = 0u; j < count; j++) {
            let key = place(base + j * ${ WG }u, key_head);
            var sums = ${ "own[" ~ SCORES ~ "u + j]" if part_of_columns > 0 else "vec4<f32>()" };
# for c in range(part_of_columns, part_of_columns + 8)
            let key${ c } = load_keys(key + min(${ c }u, d4 - 1u));
# for r in range(R)
            sums.${ of[r] } += dot(own[${ 8 * c + r }], key${ c });
# endfor
# endfor
# if part_of_columns + 8 == D4
# if cache == "q8"
            sums *= bitcast<f32>(keys[key - 1u]);
# endif
            let number = vec4<u32>(base + j * ${ WG }u);
            sums = select(vec4<f32>(LOWEST), bounded(sums), (number >= begins) & (number < ends));
            peak = max(peak, sums);
# endif
            own[${ SCORES }u + j] = sums;
        }
# endfor
        let shrink = exp(top - peak);
        top = peak;
        total *= shrink;
# for c in range(D4)
# for r in range(R)
        own[${ 8 * c + 4 + r }] *= shrink.${ of[r] };
# endfor
# endfor
# for part_of_columns in range(0, D4, 8)
        for (var j = 0u; j < count; j++) {
            let value = place(base + j * ${ WG }u, key_head);
# if part_of_columns == 0
            let scores = own[${ SCORES }u + j];
            // Not `>`: a score that is no number has to make the row none.
            var weights = select(vec4<f32>(), exp(scores - peak), scores != vec4<f32>(LOWEST));
            total += weights;
# if cache == "q8"
            weights *= bitcast<f32>(values[value - 1u]);
# endif
            own[${ SCORES }u + j] = weights;
# else
            let weights = own[${ SCORES }u + j];
# endif
# for c in range(part_of_columns, part_of_columns + 8)
            let value${ c } = load_values(value + min(${ c }u, d4 - 1u));
# for r in range(R)
            own[${ 8 * c + 4 + r }] += weights.${ of[r] } * value${ c };
# endfor
# endfor
        }
# endfor
    }
    tops[lane] = top;
    workgroupBarrier();
    var peak = tops[0];
    for (var j = 1u; j < ${ WG }u; j++) {
        peak = max(peak, tops[j]);
    }
    let shrink = exp(top - peak);
    totals[lane] = total * shrink;
    workgroupBarrier();
    var whole = vec4<f32>();
    for (var j = 0u; j < ${ WG }u; j++) {
        whole += totals[j];
    }
# for r in range(R)
    for (var c = 0u; c < d4; c++) {
        shares[lane * ${ D4 + 1 }u + c] = own[8u * c + ${ 4 + r }u] * shrink.${ of[r] };
    }
    workgroupBarrier();
    if first + ${ r }u < rows {
        let to = ${ "part_of(row" ~ r ~ ".query, section)" if part else "row" ~ r ~ ".query" };
        for (var c = lane; c < d4; c += ${ WG }u) {
            var sum = vec4<f32>();
            for (var j = 0u; j < ${ WG }u; j++) {
                sum += shares[j * ${ D4 + 1 }u + c];
            }
            y[to + c] = sum / max(whole.${ of[r] }, 1.0e-30);
        }
# if part
        if lane == 0u {
            store_mass(row${ r }.query, section, peak.${ of[r] }, whole.${ of[r] });
        }
# endif
    }
    workgroupBarrier();
# endfor
# endmacro
