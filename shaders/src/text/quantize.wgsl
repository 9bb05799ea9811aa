// Rows as bytes, each block of 32 columns with its scale: what whole-number products take. The norm by the root mean square comes first.
//
// A workgroup owns a row and an invocation every WG-th block of it.
//@ axis path = portable(WG=64) | sweep(WG=8)

struct Params {
    // columns, columns in fours, and blocks of 32 columns
    columns: u32,
    k4: u32,
    blocks: u32,
    // 1: the row is divided by its root mean square and multiplied by gain
    normalize: u32,
    // added to the mean square
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, k]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [k]; bound to x when there is none
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;
// [m / 4, blocks, 9, 4]: of four rows side by side a word for every four columns of a block, then its scale
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

var<workgroup> parts: array<f32, ${ WG }>;

// Four columns of a row, zeros beyond its end.
fn four(row: u32, at: u32) -> vec4<f32> {
    let inside = vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.columns);
    return select(vec4<f32>(), x[row * params.k4 + min(at, params.k4 - 1u)], inside);
}

const NOT_FINITE = 0x7f800000u;
const NAN_BITS = 0x7fc00000u;

// Magnitudes as whole numbers.
fn bits(v: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
}

@compute @workgroup_size(${ WG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    var factor = 1.0;
    if params.normalize != 0u {
        var squares = vec4<f32>();
        for (var at = lane; at < params.k4; at += ${ WG }u) {
            let v = four(row, at);
            squares += v * v;
        }
        parts[lane] = (squares.x + squares.y) + (squares.z + squares.w);
        workgroupBarrier();
        for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
            if lane < half {
                parts[lane] += parts[lane + half];
            }
            workgroupBarrier();
        }
        factor = inverseSqrt(parts[0] / f32(params.columns) + params.epsilon);
    }
    for (var block = lane; block < params.blocks; block += ${ WG }u) {
# for c in range(8)
        var v${ c } = four(row, block * 8u + ${ c }u);
# endfor
        if params.normalize != 0u {
# for c in range(8)
            v${ c } *= factor * gain[min(block * 8u + ${ c }u, params.k4 - 1u)];
# endfor
        }
        // As whole numbers magnitudes are in the same order, and what is not finite is the largest, which max of floats may pass over.
        var peaks = bits(v0);
# for c in range(1, 8)
        peaks = max(peaks, bits(v${ c }));
# endfor
        let top = max(max(peaks.x, peaks.y), max(peaks.z, peaks.w));
        let finite = top < NOT_FINITE;
        let peak = bitcast<f32>(select(0u, top, finite));
        let inverse = select(0.0, 127.0 / peak, peak > 0.0);
        let start = (row / 4u * params.blocks + block) * 36u + row % 4u;
# for c in range(8)
        let q${ c } = vec4<i32>(round(v${ c } * inverse)) & vec4<i32>(255);
        y[start + ${ 4 * c }u] = bitcast<u32>(q${ c }.x | (q${ c }.y << 8u) | (q${ c }.z << 16u) | (q${ c }.w << 24u));
# endfor
        y[start + 32u] = select(NAN_BITS, bitcast<u32>(peak / 127.0), finite);
    }
}
