// An operation on pairs of values, with numpy's broadcasting.
//
// An invocation owns four neighbouring values of the result. An operand whose last extent is one brings the same value to
// all four. Pad lanes are written as zeros.

struct Params {
    // of every axis but the last, innermost first: extent of the result, then the step of each operand in fours
    axes: array<vec4<u32>, 5>,
    // fours of values, and invocations in a row of the grid
    count: u32,
    width: u32,
    // values of a row of the result, and the same in fours
    last: u32,
    last4: u32,
    // whether the last axis of the operand has one value
    single_a: u32,
    single_b: u32,
    // which operation
    choice: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

// The power by way of the logarithm, with the sign of a negative base's whole powers.
fn power(base: vec4<f32>, exponent: vec4<f32>) -> vec4<f32> {
    let size = pow(abs(base), exponent);
    let half = exponent * 0.5;
    let odd = half != floor(half);
    let signed = select(size, -size, odd & (base < vec4<f32>()));
    return select(signed, vec4<f32>(1.0), exponent == vec4<f32>());
}

fn apply(p: vec4<f32>, q: vec4<f32>) -> vec4<f32> {
    switch params.choice {
        case 0u: { return p + q; }
        case 1u: { return p - q; }
        case 2u: { return p * q; }
        case 3u: { return p / q; }
        case 4u: { return power(p, q); }
        case 5u: { return max(p, q); }
        default: { return min(p, q); }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * params.width + id.x;
    if i < params.count {
        let column = i % params.last4;
        var rest = i / params.last4;
        var at_a = select(column, 0u, params.single_a != 0u);
        var at_b = select(column, 0u, params.single_b != 0u);
        for (var axis = 0u; axis < 5u; axis++) {
            let place = rest % params.axes[axis].x;
            rest /= params.axes[axis].x;
            at_a += place * params.axes[axis].y;
            at_b += place * params.axes[axis].z;
        }
        var p = a[at_a];
        var q = b[at_b];
        if params.single_a != 0u {
            p = p.xxxx;
        }
        if params.single_b != 0u {
            q = q.xxxx;
        }
        let inside = vec4<u32>(0u, 1u, 2u, 3u) + vec4<u32>(column * 4u) < vec4<u32>(params.last);
        y[i] = select(vec4<f32>(), apply(p, q), inside);
    }
}
