// Softmax, or its logarithm, of every row.
//
// portable: a workgroup owns a row; largest value and sum of exponentials are found by halving in workgroup memory.
// sweep: an invocation owns a row, without a barrier.
// Pad lanes are written as zeros.
//@ axis path = portable(LANES=64) | sweep(LANES=1)

struct Params {
    // rows, and how many of them a row of the grid does
    rows: u32,
    width: u32,
    // values of a row
    last: u32,
    // whether the logarithm is asked for
    logarithm: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [rows, last]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [rows, last]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

# if LANES > 1
var<workgroup> parts: array<f32, ${ LANES }>;

# for (name, join) in [("largest", "max(parts[lane], parts[lane + half])"), ("total", "parts[lane] + parts[lane + half]")]
fn ${ name }(lane: u32, part: f32) -> f32 {
    parts[lane] = part;
    workgroupBarrier();
    for (var half = ${ LANES // 2 }u; half > 0u; half /= 2u) {
        if lane < half {
            parts[lane] = ${ join };
        }
        workgroupBarrier();
    }
    let result = parts[0];
    workgroupBarrier();
    return result;
}

# endfor
# endif
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
# if LANES > 1
    let lane = local.x;
    let row = group.y * params.width + group.x;
# else
    let lane = 0u;
    let row = group.y * params.width + group.x * 64u + local.x;
# endif
    let last4 = (params.last + 3u) / 4u;
    // Beyond the last row the last one is done again without storing it.
    let first = min(row, params.rows - 1u) * last4;
    let ends = vec4<u32>(0u, 1u, 2u, 3u);

    var peak = vec4<f32>(-3.0e38);
    for (var at = lane; at < last4; at += ${ LANES }u) {
        let inside = ends + vec4<u32>(at * 4u) < vec4<u32>(params.last);
        peak = max(peak, select(peak, x[first + at], inside));
    }
    var top = max(max(peak.x, peak.y), max(peak.z, peak.w));
# if LANES > 1
    top = largest(lane, top);
# endif


    var sum = vec4<f32>();
    for (var at = lane; at < last4; at += ${ LANES }u) {
        let inside = ends + vec4<u32>(at * 4u) < vec4<u32>(params.last);
        sum += select(vec4<f32>(), exp(x[first + at] - top), inside);
    }
    var all = (sum.x + sum.y) + (sum.z + sum.w);
# if LANES > 1
    all = total(lane, all);
# endif


    if row < params.rows {
        for (var at = lane; at < last4; at += ${ LANES }u) {
            let inside = ends + vec4<u32>(at * 4u) < vec4<u32>(params.last);
            let shifted = x[first + at] - top;
            var v = shifted - log(all);
            if params.logarithm == 0u {
                v = exp(shifted) / all;
            }
            y[first + at] = select(vec4<f32>(), v, inside);
        }
    }
}
