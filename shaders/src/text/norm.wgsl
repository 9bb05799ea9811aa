// Norm of rows by their root mean square, or by their mean and variance: y = norm(x) * gain + bias + residual.
//
// A workgroup owns a row and an invocation every WG-th four of columns.
//@ axis path = portable(WG=64) | sweep(WG=8)

struct Params {
    // columns, and columns in fours
    columns: u32,
    k4: u32,
    // 1: the mean is taken away first; 2: a bias is added; 4: a residual is added
    flags: u32,
    // added to the mean square
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, k]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [k]
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;
// [k]; bound to gain when there is none
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
// [m, k]; bound to x when there is none
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>;
// [m, k]
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> parts: array<f32, ${ WG }>;

fn total(lane: u32, four: vec4<f32>) -> f32 {
    parts[lane] = (four.x + four.y) + (four.z + four.w);
    workgroupBarrier();
    for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
        if lane < half {
            parts[lane] += parts[lane + half];
        }
        workgroupBarrier();
    }
    let result = parts[0];
    workgroupBarrier();
    return result;
}

// Ones where there are columns, zeros in the padding of a row.
fn inside(at: u32) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(1.0), vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.columns));
}

@compute @workgroup_size(${ WG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x * params.k4;
    var mean = 0.0;
    if (params.flags & 1u) != 0u {
        var sum = vec4<f32>();
        for (var at = lane; at < params.k4; at += ${ WG }u) {
            sum += inside(at) * x[row + at];
        }
        mean = total(lane, sum) / f32(params.columns);
    }
    var squares = vec4<f32>();
    for (var at = lane; at < params.k4; at += ${ WG }u) {
        let v = inside(at) * (x[row + at] - mean);
        squares += v * v;
    }
    let factor = inverseSqrt(total(lane, squares) / f32(params.columns) + params.epsilon);
    for (var at = lane; at < params.k4; at += ${ WG }u) {
        var v = inside(at) * (x[row + at] - mean) * factor * gain[at];
        if (params.flags & 2u) != 0u {
            v += bias[at];
        }
        if (params.flags & 4u) != 0u {
            v += residual[row + at];
        }
        y[row + at] = inside(at) * v;
    }
}
