// Sum, mean, maximum or minimum over some of the axes.
//
// An invocation owns one stored value of the result and walks over all that it covers. Pad lanes are written as zeros.

struct Params {
    // of the axes that stay, innermost first: extent and step of the input; then the same of the axes that go
    kept: array<vec4<u32>, 6>,
    gone: array<vec4<u32>, 6>,
    // stored values of the result, and invocations in a row of the grid
    count: u32,
    width: u32,
    // values of a row of the result
    last: u32,
    // values that each result covers
    covered: u32,
    // 0 sum, 1 maximum, 2 minimum
    choice: u32,
    // what a sum is multiplied by
    weight: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.y * params.width + id.x;
    if i < params.count {
        let stride = (params.last + 3u) / 4u * 4u;
        let column = i % stride;
        var rest = i / stride * params.last + min(column, params.last - 1u);
        var first = 0u;
        for (var axis = 0u; axis < 6u; axis++) {
            first += rest % params.kept[axis].x * params.kept[axis].y;
            rest /= params.kept[axis].x;
        }
        var sum = 0.0;
        var largest = -3.0e38;
        var smallest = 3.0e38;
        for (var step = 0u; step < params.covered; step++) {
            var left = step;
            var at = first;
            for (var axis = 0u; left > 0u; axis++) {
                at += left % params.gone[axis].x * params.gone[axis].y;
                left /= params.gone[axis].x;
            }
            let v = x[at];
            sum += v;
            largest = max(largest, v);
            smallest = min(smallest, v);
        }
        var result = sum * params.weight;
        if params.choice == 1u {
            result = largest;
        } else if params.choice == 2u {
            result = smallest;
        }
        y[i] = select(0.0, result, column < params.last);
    }
}
