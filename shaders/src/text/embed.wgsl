// The embeddings of the tokens that a run adds to a session, from a table in panels of any scheme.
//
// An invocation owns a block of 32 columns of one token.
//@ axis scheme = f32 | f16 | bf16 | q8_0 | q4_0 | q4_1 | q5_0 | q5_1 | q2_k | q3_k | q4_k | q5_k | q6_k | iq4_nl | iq4_xs | mxfp4
# import "panel" as panel
# set quantized = scheme not in ["f32", "f16", "bf16"]
# set split = scheme in ["q2_k", "q3_k", "q6_k"]
# set spread = quantized and scheme not in ["iq4_nl", "iq4_xs", "mxfp4"]
# set wide = scheme in ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"]

struct Params {
    // tokens of a run
    m: u32,
    // columns in fours
    k4: u32,
    // blocks of 32 columns
    blocks: u32,
    // rows of the table
    rows: u32,
    // room for tokens
    context: u32,
    // tokens before the table's first row
    first: u32,
    // the embeddings are multiplied by it
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [context]: the session's tokens
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
// [2]: tokens in the cache, tokens that this run adds
@group(0) @binding(2) var<storage, read> cursor: array<u32>;
${ panel.bindings(scheme, 3) }
// [m, k]: what tokens before the first row have; bound to something else when there are none
@group(0) @binding(${ 3 + panel.tensors(scheme) | int }) var<storage, read> before: array<vec4<f32>>;
// [m, k]
@group(0) @binding(${ 4 + panel.tensors(scheme) | int }) var<storage, read_write> y: array<vec4<f32>>;

fn store(token: u32, four: u32, v: vec4<f32>) {
    if four < params.k4 {
        y[token * params.k4 + four] = v * params.factor;
    }
}

@compute @workgroup_size(16, 4)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.blocks && id.y < params.m {
        // Places beyond the tokens of the run hold some token or other; nobody reads what becomes of them.
        let asked = tokens[min(cursor[0] + id.y, params.context - 1u)];
        if asked < params.first {
            for (var four = id.x * 8u; four < min(id.x * 8u + 8u, params.k4); four++) {
                y[id.y * params.k4 + four] = before[id.y * params.k4 + four];
            }
            return;
        }
        let token = min(asked - params.first, params.rows - 1u);
        let row = token % 32u;
        let block = token / 32u * params.blocks + id.x;
# if wide
        let wide = token / 32u * ((params.blocks + 7u) / 8u) + id.x / 8u;
        let part = id.x % 8u;
# endif
${ panel.loads(scheme, "w0", "block", "row") }
# if quantized
${ panel.scale(scheme, "d", "block", "wide", "part", "row") }
# endif
# for j in range(8)
# set d = "d_rest" if split and j >= 4 else "d"
        store(id.y, id.x * 8u + ${ j }u, <% if quantized %>${ d }.x * (${ panel.four(scheme, "w0", j) }<% if spread %> * ${ panel.spread(scheme) }<% endif %>) + ${ d }.y<% else %>${ panel.four(scheme, "w0", j) }<% endif %>);
# endfor
    }
}
