// Fully connected layer for few rows: y = act((x * w) * factor + bias).
//
// portable: a workgroup owns TM rows x 4*CW columns; SLICES invocations share the sum of four columns, which they add up
// in workgroup memory, so that a single row still keeps a whole GPU busy.
// broad: an invocation sums four columns of TM rows alone, with no barrier, which costs a software adapter more than it brings.
// subgroupN: a subgroup owns TM rows x 4*SG columns and a lane 4 of those columns; each lane loads four other values of
// each row, which then go round by shuffles, so that no value is ever loaded by all lanes at once.
//@ axis path = portable(CW=8, SLICES=32) | broad(CW=4, SLICES=1) | subgroup4(SG=4) | subgroup8(SG=8)
//@ axis rows = one(TM=1) | few(TM=4)
//@ axis storage = f32 | f16 | i8
//@ skip path=broad, storage=f16
//@ skip path=broad, storage=i8
# import "storage" as storage_of
# import "matrix" as matrix
# import "activation" as activation
# set values = "f16" if storage == "f16" else "f32"
# set subgroups = path in ["subgroup4", "subgroup8"]

struct Params {
    // rows
    m: u32,
    // values of a row in, and out, in fours
    k4: u32,
    n4: u32,
    // whether the bias row is followed by a row of weight scales
    scales: u32,
${ activation.fields() }
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, k]
@group(0) @binding(1) var<storage, read> x: ${ storage_of.rows(values) };
// [k, n]
@group(0) @binding(2) var<storage, read> w: ${ matrix.columns(storage) };
// [1 or 2, n]: the bias, then the scale of each column
@group(0) @binding(3) var<storage, read> affine: array<vec4<f32>>;
// [m, n]
@group(0) @binding(4) var<storage, read_write> y: ${ storage_of.rows(values) };

${ storage_of.reader("x", values) }

${ storage_of.writer("y", values) }

${ matrix.reader("w", storage) }

${ activation.function() }

// Scale, bias, activation, store.
fn finish(row: u32, column: u32, sum: vec4<f32>) {
    if row < params.m && column < params.n4 {
        var factor = vec4<f32>(${ matrix.unit(storage) });
        if params.scales != 0u {
            factor *= affine[params.n4 + column];
        }
        store_y(row * params.n4 + column, activate(sum * factor + affine[column]));
    }
}

# if subgroups
@compute @workgroup_size(${ SG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let column = group.x * ${ SG }u + lane;
# else
# if SLICES > 1
var<workgroup> partial: array<vec4<f32>, ${ CW * SLICES * TM }>;

# endif
@compute @workgroup_size(${ CW }, ${ SLICES })
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
# if SLICES > 1
    @builtin(local_invocation_index) lane: u32,
# endif
) {
    let column = group.x * ${ CW }u + local.x;
# endif
    let row0 = group.y * ${ TM }u;
    let k4 = params.k4;
    // Addresses are clamped and only the stores are guarded.
    let n = min(column, params.n4 - 1u);
# for t in range(TM)
    let x${ t } = min(row0 + ${ t }u, params.m - 1u) * k4;
    var sum${ t } = vec4<f32>();
# endfor
# if subgroups
    for (var block = 0u; block < k4; block += ${ SG }u) {
        let own = min(block + lane, k4 - 1u);
# for t in range(TM)
        let a${ t } = load_x(x${ t } + own);
# endfor
        let end = min(${ SG }u, k4 - block);
        for (var peer = 0u; peer < end; peer++) {
            let weights = load_w(block + peer, params.n4, n);
# for t in range(TM)
            sum${ t } += weights * subgroupShuffle(a${ t }, peer);
# endfor
        }
    }
# for t in range(TM)
    finish(row0 + ${ t }u, column, sum${ t });
# endfor
# else
    for (var k = local.y; k < k4; k += ${ SLICES }u) {
        let weights = load_w(k, params.n4, n);
# for t in range(TM)
        sum${ t } += weights * load_x(x${ t } + k);
# endfor
    }
# if SLICES == 1
# for t in range(TM)
    finish(row0 + ${ t }u, column, sum${ t });
# endfor
# else
# for t in range(TM)
    partial[lane + ${ t * CW * SLICES }u] = sum${ t };
# endfor
    workgroupBarrier();
    // Row t of the workgroup is summed by the invocations (column, t).
    if local.y < ${ TM }u {
        var sum = vec4<f32>();
        for (var slice = 0u; slice < ${ SLICES }u; slice++) {
            sum += partial[(local.y * ${ SLICES }u + slice) * ${ CW }u + local.x];
        }
        finish(row0 + local.y, column, sum);
    }
# endif
# endif
}
