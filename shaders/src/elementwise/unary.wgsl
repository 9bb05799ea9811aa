// A function of each value.
//
// An invocation owns four neighbouring values. Pad lanes are written as zeros, because many of the functions would make
// something infinite of them.
//@ axis group = algebraic | transcendental
//@ axis storage = f32 | f16
# import "storage" as storage_of
# import "activation" as activation

struct Params {
    // fours of values, and invocations in a row of the grid
    count: u32,
    width: u32,
    // values of a row, and the same in fours
    last: u32,
    last4: u32,
    // which function of the group
    choice: u32,
${ activation.fields() }
}

@group(0) @binding(0) var<uniform> params: Params;
// [.., last]
@group(0) @binding(1) var<storage, read> x: ${ storage_of.rows(storage) };
// [.., last]
@group(0) @binding(2) var<storage, read_write> y: ${ storage_of.rows(storage) };

${ storage_of.reader("x", storage) }

${ storage_of.writer("y", storage) }

# if group == "algebraic"
fn apply(v: vec4<f32>) -> vec4<f32> {
    switch params.choice {
        // The formula of the activations, except that the upper bound wins where the bounds cross.
        case 0u: {
            let gate = min(max(v * params.act_a + params.act_b, vec4<f32>(params.act_low)), vec4<f32>(params.act_high));
            return gate * (params.act_c + params.act_d * v);
        }
        // Below zero, the slope act_a.
        case 1u: { return select(v * params.act_a, v, v >= vec4<f32>()); }
        case 2u: { return sqrt(v); }
        case 3u: { return abs(v); }
        default: { return 1.0 / v; }
    }
}
# else
// Both halves from exp of a number that is not positive, so that nothing overflows.
fn sigmoid(v: vec4<f32>) -> vec4<f32> {
    let t = exp(-abs(v));
    return select(t, vec4<f32>(1.0), v >= vec4<f32>()) / (1.0 + t);
}

// Taylor's series near zero, where the quotient would lose digits.
fn hyperbolic_tangent(v: vec4<f32>) -> vec4<f32> {
    let t = exp(-2.0 * abs(v));
    let far = sign(v) * (1.0 - t) / (1.0 + t);
    let s = v * v;
    let near = v * (1.0 + s * (-0.33333333 + s * (0.13333333 + s * (-0.05396825 + s * 0.021869489))));
    return select(far, near, abs(v) < vec4<f32>(0.25));
}

// Taylor's series near zero; beyond, 1 - exp(-v v) q(1 / (1 + v / 2)) with q fitted to an error of 2.6e-8.
fn error_function(v: vec4<f32>) -> vec4<f32> {
    let s = v * v;
    let near = v * (1.1283792 + s * (-0.37612638 + s * (0.11283792 + s * (-0.026866170 + s * (0.0052239776 + s * -0.00085483272)))));
    let t = 1.0 / (1.0 + 0.5 * abs(v));
    let q = t * (0.28002489 + t * (0.29854438 + t * (0.20492731 + t * (0.18228285 + t * (0.24065013 + t * (-0.27749336 + t * 0.071063802))))));
    return select(sign(v) * (1.0 - q * exp(-s)), near, abs(v) < vec4<f32>(0.5));
}

fn apply(v: vec4<f32>) -> vec4<f32> {
    switch params.choice {
        case 0u: { return sigmoid(v); }
        case 1u: { return hyperbolic_tangent(v); }
        case 2u: { return error_function(v); }
        case 3u: { return 0.5 * v * (1.0 + error_function(0.70710678 * v)); }
        case 4u: { return 0.5 * v * (1.0 + hyperbolic_tangent(0.79788456 * v * (1.0 + 0.044715 * v * v))); }
        case 5u: { return exp(v); }
        default: { return log(v); }
    }
}
# endif

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * params.width + id.x;
    if i < params.count {
        let inside = vec4<u32>(0u, 1u, 2u, 3u) + vec4<u32>(i % params.last4 * 4u) < vec4<u32>(params.last);
        store_y(i, select(vec4<f32>(), apply(load_x(i)), inside));
    }
}
