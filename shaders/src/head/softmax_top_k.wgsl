// Softmax of the logits of an image, and its k best classes in order.
//
// A workgroup owns an image and an invocation every WG-th group of four classes. Largest logit and sum of exponentials are
// found by halving in workgroup memory. Then k rounds: each invocation holds its best class not listed yet, the best of
// all is listed, and only the invocation that held it looks for its next one.
//@ axis path = portable(WG=256) | sweep(WG=8)
//@ axis storage = f32 | f16
# import "storage" as storage_of

struct Params {
    // classes
    c: u32,
    // classes to list
    k: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [images, c]
@group(0) @binding(1) var<storage, read> x: ${ storage_of.rows(storage) };
// [images, c]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
// [images, k]: class, best first
@group(0) @binding(3) var<storage, read_write> classes: array<u32>;
// [images, ceil(k / 4) * 4]: its probability
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;

${ storage_of.reader("x", storage) }

// No class: larger than every class.
const NONE = 0xffffffffu;

// A class, by its index, and its logit.
struct Choice {
    logit: f32,
    index: u32,
}

var<workgroup> parts: array<f32, ${ WG }>;
var<workgroup> choices: array<Choice, ${ WG }>;

# for (name, join) in [("largest", "max(parts[lane], parts[lane + half])"), ("total", "parts[lane] + parts[lane + half]")]
fn ${ name }(lane: u32, part: f32) -> f32 {
    parts[lane] = part;
    workgroupBarrier();
    for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
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
// Whether `a` stands before `b` in the list; among equal logits the lower class does. NaN stands nowhere.
fn before(a: Choice, b: Choice) -> bool {
    return a.index != NONE && (b.index == NONE || a.logit > b.logit || (a.logit == b.logit && a.index < b.index));
}

// The first in the list of this invocation's classes that stand after `listed`; without `listed`, of all of them.
fn next(image: u32, lane: u32, listed: Choice) -> Choice {
    let c4 = (params.c + 3u) / 4u;
    var best = Choice(0.0, NONE);
    for (var at = lane; at < c4; at += ${ WG }u) {
        let logits = load_x(image * c4 + at);
# for i in range(4)
        let found${ i } = Choice(logits.${ "xyzw"[i] }, at * 4u + ${ i }u);
        if found${ i }.index < params.c && found${ i }.logit == found${ i }.logit
            && (listed.index == NONE || before(listed, found${ i })) && before(found${ i }, best) {
            best = found${ i };
        }
# endfor
    }
    return best;
}

@compute @workgroup_size(${ WG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.x;
    let image = group.x;
    let c4 = (params.c + 3u) / 4u;
    let ends = vec4<u32>(0u, 1u, 2u, 3u);

    var peak = vec4<f32>(-3.0e38);
    for (var at = lane; at < c4; at += ${ WG }u) {
        let inside = ends + vec4<u32>(at * 4u) < vec4<u32>(params.c);
        peak = max(peak, select(peak, load_x(image * c4 + at), inside));
    }
    let top = largest(lane, max(max(peak.x, peak.y), max(peak.z, peak.w)));

    var sum = vec4<f32>();
    for (var at = lane; at < c4; at += ${ WG }u) {
        let inside = ends + vec4<u32>(at * 4u) < vec4<u32>(params.c);
        sum += select(vec4<f32>(), exp(load_x(image * c4 + at) - top), inside);
    }
    let weight = 1.0 / total(lane, (sum.x + sum.y) + (sum.z + sum.w));

    for (var at = lane; at < c4; at += ${ WG }u) {
        let inside = ends + vec4<u32>(at * 4u) < vec4<u32>(params.c);
        y[image * c4 + at] = select(vec4<f32>(), exp(load_x(image * c4 + at) - top) * weight, inside);
    }

    var own = next(image, lane, Choice(0.0, NONE));
    let width = (params.k + 3u) / 4u * 4u;
    if lane < width - params.k {
        scores[image * width + params.k + lane] = 0.0;
    }
    for (var place = 0u; place < params.k; place++) {
        choices[lane] = own;
        workgroupBarrier();
        for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
            if lane < half && before(choices[lane + half], choices[lane]) {
                choices[lane] = choices[lane + half];
            }
            workgroupBarrier();
        }
        let best = choices[0];
        workgroupBarrier();
        if lane == 0u {
            classes[image * params.k + place] = best.index;
            scores[image * width + place] = select(0.0, exp(best.logit - top) * weight, best.index != NONE);
        }
        if best.index != NONE && own.index == best.index {
            own = next(image, lane, own);
        }
    }
}
