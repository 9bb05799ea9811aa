// One row for each sequence of a ragged batch, made of the sequence's rows, and divided by its length as a vector where asked for.
//
// A workgroup owns a sequence and an invocation every WG-th four of columns.
//@ axis path = portable(WG=64) | sweep(WG=8)

struct Params {
    // rows of x
    m: u32,
    // columns, and columns in fours
    columns: u32,
    k4: u32,
    // 0: mean, 1: first row, 2: last row, 3: largest, 4: sum divided by the root of the number of rows
    kind: u32,
    // 1: the result is divided by the root of the sum of its squares
    normalize: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, k]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [sequences]: the first row of each sequence, and the one after its last
@group(0) @binding(2) var<storage, read> spans: array<vec2<u32>>;
// [sequences, k]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> parts: array<f32, ${ WG }>;

// Ones where there are columns, zeros in the padding of a row.
fn inside(at: u32) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(1.0), vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.columns));
}

fn pooled(span: vec2<u32>, at: u32) -> vec4<f32> {
    let end = min(span.y, params.m);
    if span.x >= end {
        return vec4<f32>();
    }
    let count = f32(end - span.x);
    let first = x[span.x * params.k4 + at];
    switch params.kind {
        case 1u: { return first; }
        case 2u: { return x[(end - 1u) * params.k4 + at]; }
        case 3u: {
            var most = first;
            for (var row = span.x + 1u; row < end; row++) {
                most = max(most, x[row * params.k4 + at]);
            }
            return most;
        }
        default: {
            var sum = first;
            for (var row = span.x + 1u; row < end; row++) {
                sum += x[row * params.k4 + at];
            }
            return sum / select(count, sqrt(count), params.kind == 4u);
        }
    }
}

@compute @workgroup_size(${ WG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x * params.k4;
    let span = spans[group.x];
    var squares = vec4<f32>();
    for (var at = lane; at < params.k4; at += ${ WG }u) {
        let v = inside(at) * pooled(span, at);
        squares += v * v;
        y[row + at] = v;
    }
    parts[lane] = (squares.x + squares.y) + (squares.z + squares.w);
    workgroupBarrier();
    for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
        if lane < half {
            parts[lane] += parts[lane + half];
        }
        workgroupBarrier();
    }
    if params.normalize == 1u {
        let factor = 1.0 / max(sqrt(parts[0]), 1.0e-12);
        for (var at = lane; at < params.k4; at += ${ WG }u) {
            y[row + at] *= factor;
        }
    }
}
