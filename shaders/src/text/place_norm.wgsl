// Embeddings of a ragged batch: adds what belongs to a row's place in its sequence, and normalizes the sum by its mean and variance.
//
// A workgroup owns a row and an invocation every WG-th four of columns.
//@ axis path = portable(WG=64) | sweep(WG=8)

struct Params {
    // columns, and columns in fours
    columns: u32,
    k4: u32,
    // rows of the table of places
    places: u32,
    // added to the variance
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, k]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [m]: the first row of each row's sequence, and the one after its last
@group(0) @binding(2) var<storage, read> spans: array<vec2<u32>>;
// [places, k]
@group(0) @binding(3) var<storage, read> table: array<vec4<f32>>;
// [k]
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;
// [k]
@group(0) @binding(5) var<storage, read> bias: array<vec4<f32>>;
// [m, k]
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

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
    let place = min(group.x - min(group.x, spans[group.x].x), params.places - 1u) * params.k4;
    var sum = vec4<f32>();
    for (var at = lane; at < params.k4; at += ${ WG }u) {
        sum += inside(at) * (x[row + at] + table[place + at]);
    }
    let mean = total(lane, sum) / f32(params.columns);
    var squares = vec4<f32>();
    for (var at = lane; at < params.k4; at += ${ WG }u) {
        let v = inside(at) * (x[row + at] + table[place + at] - mean);
        squares += v * v;
    }
    let factor = inverseSqrt(total(lane, squares) / f32(params.columns) + params.epsilon);
    for (var at = lane; at < params.k4; at += ${ WG }u) {
        let v = x[row + at] + table[place + at] - mean;
        y[row + at] = inside(at) * (v * factor * gain[at] + bias[at]);
    }
}
