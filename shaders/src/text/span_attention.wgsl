// Attention of the rows of a ragged batch, each to all rows of its own sequence, softmax as the keys go by.
//
// A workgroup owns a head of four neighbouring rows. It goes through the keys from the first to the last that any of the four sees,
// and each row leaves out those beyond its own sequence.
// portable: its invocations score 64 keys at a time for the four, then sum up a four of columns of a row each.
// subgroupN: a lane scores every SG-th key for the four, and sums up every SG-th four of their columns.
//@ axis path = portable(WG=64) | subgroup4(SG=4) | subgroup8(SG=8)
# set subgroups = path != "portable"
# set lanes = SG if subgroups else WG

struct Params {
    // rows
    m: u32,
    heads: u32,
    // columns of a head in fours
    d4: u32,
    // multiplies the scores
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, 3 * heads * head]: queries, keys, values
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [m]: the first row of each row's sequence, and the one after its last
@group(0) @binding(2) var<storage, read> spans: array<vec2<u32>>;
// [m, heads * head]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

// Lower than every score.
const LOWEST = -3.0e38;

# if not subgroups
var<workgroup> peaks: array<vec4<f32>, ${ WG }>;
var<workgroup> weights: array<f32, ${ 4 * WG }>;

fn largest(lane: u32, value: vec4<f32>) -> vec4<f32> {
    peaks[lane] = value;
    workgroupBarrier();
    for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
        if lane < half {
            peaks[lane] = max(peaks[lane], peaks[lane + half]);
        }
        workgroupBarrier();
    }
    let result = peaks[0];
    workgroupBarrier();
    return result;
}

# endif
@compute @workgroup_size(${ lanes })
# if subgroups
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
# else
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
# endif
    let d4 = params.d4;
    let width = params.heads * d4;
    let stride = 3u * width;
    let head = group.x * d4;
    let row = group.y * 4u;
# for t in range(4)
    let row${ t } = min(row + ${ t }u, params.m - 1u);
    let span${ t } = spans[row${ t }];
    let query${ t } = row${ t } * stride + head;
# endfor
    let begins = vec4<u32>(span0.x, span1.x, span2.x, span3.x);
    let ends = min(vec4<u32>(span0.y, span1.y, span2.y, span3.y), vec4<u32>(params.m));
    let begin = min(min(begins.x, begins.y), min(begins.z, begins.w));
    let end = max(max(ends.x, ends.y), max(ends.z, ends.w));

    // One component a row.
    var top = vec4<f32>(LOWEST);
    var total = vec4<f32>();
# set fours = 128 // 4 // SG if subgroups else 128 // WG
# if subgroups
# for t in range(4)
    var sums${ t }: array<vec4<f32>, ${ fours }>;
# endfor
# else
# for c in range(fours)
    var sum${ c } = vec4<f32>();
# endfor
# endif
    for (var base = begin; base < end; base += ${ lanes }u) {
        let key = min(base + lane, end - 1u);
        let keys = key * stride + width + head;
# for t in range(4)
        var products${ t } = vec4<f32>();
# endfor
# if subgroups
        for (var i = 0u; i < d4; i += ${ SG }u) {
            let own = min(i + lane, d4 - 1u);
# for t in range(4)
            let part${ t } = select(vec4<f32>(), x[query${ t } + own], i + lane < d4);
# endfor
# for l in range(SG)
            let key${ l } = x[keys + min(i + ${ l }u, d4 - 1u)];
# for t in range(4)
            products${ t } += subgroupBroadcast(part${ t }, ${ l }u) * key${ l };
# endfor
# endfor
        }
# else
        for (var i = 0u; i < d4; i++) {
            let part = x[keys + i];
# for t in range(4)
            products${ t } += x[query${ t } + i] * part;
# endfor
        }
# endif
        let scores = params.scale * vec4<f32>(
# for t in range(4)
            (products${ t }.x + products${ t }.y) + (products${ t }.z + products${ t }.w),
# endfor
        );
        let seen = (vec4<u32>(key) >= begins) & (vec4<u32>(key) < ends) & vec4<bool>(base + lane < end);
# if subgroups
        let peak = max(top, subgroupMax(select(vec4<f32>(LOWEST), scores, seen)));
# else
        let peak = max(top, largest(lane, select(vec4<f32>(LOWEST), scores, seen)));
# endif
        let weight = select(vec4<f32>(), exp(min(scores - peak, vec4<f32>())), seen);
        let shrink = exp(top - peak);
        top = peak;
        total = total * shrink + weight;
# if subgroups
# for l in range(SG)
        let weight${ l } = subgroupBroadcast(weight, ${ l }u);
        let values${ l } = min(base + ${ l }u, end - 1u) * stride + 2u * width + head;
# endfor
        for (var c = 0u; c * ${ SG }u < d4; c++) {
            let own = min(c * ${ SG }u + lane, d4 - 1u);
# for t in range(4)
            var sum${ t } = sums${ t }[c] * shrink.${ "xyzw"[t] };
# endfor
# for l in range(SG)
            let value${ l } = x[values${ l } + own];
# for t in range(4)
            sum${ t } += weight${ l }.${ "xyzw"[t] } * value${ l };
# endfor
# endfor
# for t in range(4)
            sums${ t }[c] = sum${ t };
# endfor
        }
# else
# for t in range(4)
        weights[${ t * WG }u + lane] = weight.${ "xyzw"[t] };
# endfor
        workgroupBarrier();
        let rows = min(${ WG }u, end - base);
# for c in range(fours)
        {
            let own = lane + ${ c * WG }u;
            if own < 4u * d4 {
                let t = own / d4;
                sum${ c } *= shrink[t];
                let values = base * stride + 2u * width + head + own % d4;
                for (var l = 0u; l < rows; l++) {
                    sum${ c } += weights[t * ${ WG }u + l] * x[values + l * stride];
                }
            }
        }
# endfor
        workgroupBarrier();
# endif
    }
    // A row that sees nothing has sums of zero.
# if subgroups
    let share = 1.0 / max(subgroupAdd(total), vec4<f32>(1.0e-30));
    for (var c = 0u; c * ${ SG }u < d4; c++) {
        let own = c * ${ SG }u + lane;
        if own < d4 {
# for t in range(4)
            if row + ${ t }u < params.m {
                y[row${ t } * width + head + own] = sums${ t }[c] * share.${ "xyzw"[t] };
            }
# endfor
        }
    }
# else
# for t in range(4)
    weights[${ t * WG }u + lane] = total.${ "xyzw"[t] };
# endfor
    workgroupBarrier();
# for c in range(fours)
    {
        let own = lane + ${ c * WG }u;
        let t = own / d4;
        if own < 4u * d4 && row + t < params.m {
            var all = 0.0;
            for (var l = 0u; l < ${ WG }u; l++) {
                all += weights[t * ${ WG }u + l];
            }
            y[(row + t) * width + head + own % d4] = sum${ c } / max(all, 1.0e-30);
        }
    }
# endfor
# endif
}
