// Products of batches of matrices: y = alpha * a * b + beta * c.
//
// An invocation owns 4 rows x 4 columns of one product. Operands are read value by value through strides, so that
// transposed and broadcast ones need nothing of their own. Pad lanes are written as zeros.

struct Params {
    // of the batch axes, innermost first: extent, then the steps of a and b
    batches: array<vec4<u32>, 4>,
    m: u32,
    n: u32,
    k: u32,
    // steps between rows and between columns of a, b and c
    a_row: u32,
    a_column: u32,
    b_row: u32,
    b_column: u32,
    c_row: u32,
    c_column: u32,
    alpha: f32,
    beta: f32,
    // whether c is added
    added: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [.., m, k] or [.., k, m]
@group(0) @binding(1) var<storage, read> a: array<f32>;
// [.., k, n] or [.., n, k]
@group(0) @binding(2) var<storage, read> b: array<f32>;
// [m or 1, n or 1]; bound to a when there is none
@group(0) @binding(3) var<storage, read> c: array<f32>;
// [.., m, n]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    var rest = id.z;
    var at_a = 0u;
    var at_b = 0u;
    for (var axis = 0u; axis < 4u; axis++) {
        let place = rest % params.batches[axis].x;
        rest /= params.batches[axis].x;
        at_a += place * params.batches[axis].y;
        at_b += place * params.batches[axis].z;
    }
    let n4 = (params.n + 3u) / 4u;
    let columns = vec4<u32>(0u, 1u, 2u, 3u) + vec4<u32>(id.x * 4u);
    // Addresses are clamped and only the stores are guarded.
    let inside = columns < vec4<u32>(params.n);
    let clamped = min(columns, vec4<u32>(params.n - 1u));
    let from_b = vec4<u32>(at_b) + clamped * params.b_column;
    let from_c = clamped * params.c_column;
# for t in range(4)
    let row${ t } = min(id.y * 4u + ${ t }u, params.m - 1u);
    let from_a${ t } = at_a + row${ t } * params.a_row;
    var sum${ t } = vec4<f32>();
# endfor
    for (var k = 0u; k < params.k; k++) {
        let at = from_b + vec4<u32>(k * params.b_row);
        let weights = vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
# for t in range(4)
        sum${ t } += a[from_a${ t } + k * params.a_column] * weights;
# endfor
    }
# for t in range(4)
    if id.x < n4 && id.y * 4u + ${ t }u < params.m {
        var v = params.alpha * sum${ t };
        if params.added != 0u {
            let at = from_c + vec4<u32>(row${ t } * params.c_row);
            v += params.beta * vec4<f32>(c[at.x], c[at.y], c[at.z], c[at.w]);
        }
        y[(id.z * params.m + row${ t }) * n4 + id.x] = select(vec4<f32>(), v, inside);
    }
# endfor
}
