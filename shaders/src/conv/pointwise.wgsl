// Pointwise (1x1) convolution as a matrix product: y = act((x * scale) * w + bias) + residual.
//
// portable: an invocation owns 4 pixels x 4 channels.
// broad: an invocation owns TM pixels x 4*NG channels, and the lanes of a subgroup are pixels of the same channels: for adapters that have
// no subgroup operations and for which loads are what costs. Weights come eight at a time, because a browser looks at each index
// whether it lies within the buffer, and row after row without a product; so channels out must be a multiple of eight.
// subgroupN: a subgroup owns TM pixels x 4*SG*NG channels and a lane NG times 4 of those channels; each lane loads the
// values of other pixels, which are then broadcast from its registers, so that no value is ever loaded by all lanes at once.
// tiled: a workgroup owns 64 pixels x 64 channels and stages 16 channels in at a time in workgroup memory.
//@ axis path = portable(TM=4, NG=1) | broad(TM=13, NG=4, LANES=4) | tiled(TM=4, NG=1) | subgroup4(SG=4, TM=8, NG=2) | subgroup8(SG=8, TM=28, NG=1)
//@ axis storage = f32 | f16 | i8
//@ axis gate = plain | scaled
//@ skip path=broad, storage=f16
//@ skip path=broad, storage=i8
# import "storage" as storage_of
# import "activation" as activation
# set values = "f16" if storage == "f16" else "f32"
# set subgroups = path in ["subgroup4", "subgroup8"]
# set eights = path == "broad"

struct Params {
    // pixels of all images
    m: u32,
    // channels in, and channels out, in fours
    k4: u32,
    n4: u32,
    // pixels of one image
    pixels: u32,
    // whether the residual is added
    residual: u32,
    // whether the bias row is followed by a row of weight scales
    scales: u32,
${ activation.fields() }
    // the first workgroup in x and in y, where a launch is of some of them
    first_group: u32,
    first_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, k]
@group(0) @binding(1) var<storage, read> x: ${ storage_of.rows(values) };
// [k, n], rows of one word together: 1 (f32), 2 (f16) or 4 (i8)
@group(0) @binding(2) var<storage, read> w: array<${ "array<vec4<f32>, 2>" if eights else "vec4<f32>" if storage == "f32" else "vec4<u32>" }>;
// [1 or 2, n]: the bias, then the scale of each output channel
@group(0) @binding(3) var<storage, read> affine: array<vec4<f32>>;
// [m, n]; bound to x when there is none
@group(0) @binding(4) var<storage, read> residual: ${ storage_of.rows(values) };
# if gate == "scaled"
// [images, k]
@group(0) @binding(5) var<storage, read> scale: ${ storage_of.rows(values) };
# endif
// [m, n]
@group(0) @binding(${ 6 if gate == "scaled" else 5 }) var<storage, read_write> y: ${ storage_of.rows(values) };

${ storage_of.reader("x", values) }

${ storage_of.reader("residual", values) }

# if gate == "scaled"
${ storage_of.reader("scale", values) }

# endif
${ storage_of.writer("y", values) }

${ activation.function() }

# if storage == "i8"
// Byte `shift / 8` counted from the top of each word, as a float 2^24 times too large.
fn bytes(word: vec4<u32>, shift: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>((word << vec4<u32>(shift)) & vec4<u32>(0xff000000u)));
}

# endif
// Bias, activation, residual, store.
fn finish(row: u32, column: u32, sum: vec4<f32>, bias: vec4<f32>, factor: vec4<f32>) {
    if row < params.m && column < params.n4 {
        var v = activate(sum * factor + bias);
        if params.residual != 0u {
            v += load_residual(row * params.n4 + column);
        }
        store_y(row * params.n4 + column, v);
    }
}

# if path == "tiled"
// [pixel][four channels in], and [channel in][four channels out].
var<workgroup> tile_x: array<array<vec4<f32>, 4>, 64>;
var<workgroup> tile_w: array<array<vec4<f32>, 16>, 16>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let k4 = params.k4;
    let n4 = params.n4;
    let group_x = params.first_group + group.x;
    let group_y = params.first_row + group.y;
    let column0 = group_x * 16u + local.x;
    let row0 = group_y * 64u + local.y * ${ TM }u;
    // What this invocation stages: one pixel's four channels, and weights of one four of channels out.
    let staged_row = min(group_y * 64u + index / 4u, params.m - 1u);
    let staged_n = min(group_x * 16u + index % 16u, n4 - 1u);
# for t in range(TM)
    var sum${ t }_0 = vec4<f32>();
# endfor
    for (var k = 0u; k < k4; k += 4u) {
        let staged_k = k + index % 4u;
        var a = load_x(staged_row * k4 + min(staged_k, k4 - 1u));
# if gate == "scaled"
        a *= load_scale(staged_row / params.pixels * k4 + min(staged_k, k4 - 1u));
# endif
        tile_x[index / 4u][index % 4u] = select(vec4<f32>(), a, staged_k < k4);
# if storage == "f32"
        tile_w[index / 16u][index % 16u] = w[min(k * 4u + index / 16u, k4 * 4u - 1u) * n4 + staged_n];
# elif storage == "f16"
        if index < 128u {
            let pair = w[min(k * 2u + index / 16u, k4 * 2u - 1u) * n4 + staged_n];
            let x_half = unpack2x16float(pair.x);
            let y_half = unpack2x16float(pair.y);
            let z_half = unpack2x16float(pair.z);
            let w_half = unpack2x16float(pair.w);
            tile_w[index / 16u * 2u][index % 16u] = vec4<f32>(x_half.x, y_half.x, z_half.x, w_half.x);
            tile_w[index / 16u * 2u + 1u][index % 16u] = vec4<f32>(x_half.y, y_half.y, z_half.y, w_half.y);
        }
# else
        if index < 64u {
            let quads = w[min(k + index / 16u, k4 - 1u) * n4 + staged_n];
# for i in range(4)
            tile_w[index / 16u * 4u + ${ i }u][index % 16u] = bytes(quads, ${ 24 - 8 * i }u);
# endfor
        }
# endif
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let w0 = tile_w[i * 4u][local.x];
            let w1 = tile_w[i * 4u + 1u][local.x];
            let w2 = tile_w[i * 4u + 2u][local.x];
            let w3 = tile_w[i * 4u + 3u][local.x];
# for t in range(TM)
            let a${ t } = tile_x[local.y * ${ TM }u + ${ t }u][i];
            sum${ t }_0 += a${ t }.x * w0 + a${ t }.y * w1 + a${ t }.z * w2 + a${ t }.w * w3;
# endfor
        }
        workgroupBarrier();
    }
    let n_0 = min(column0, n4 - 1u);
# else
# if subgroups
# set groups = (TM + SG - 1) // SG
@compute @workgroup_size(${ SG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let row0 = (params.first_row + group.y) * ${ TM }u;
# else
@compute @workgroup_size(${ "1, " ~ LANES if eights else "8, 8" })
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row0 = (params.first_row * ${ LANES if eights else 8 }u + id.y) * ${ TM }u;
# endif
    let k4 = params.k4;
    let n4 = params.n4;
    let last = params.m - 1u;
# if subgroups
# for g in range(NG)
    let column${ g } = (params.first_group + group.x) * ${ SG * NG }u + ${ SG * g }u + lane;
# endfor
# else
# for g in range(NG)
    let column${ g } = (params.first_group * ${ 1 if path == "broad" else 8 }u + id.x) * ${ NG }u + ${ g }u;
# endfor
# endif
    // Addresses are clamped and only the stores are guarded.
# for g in range(NG)
    let n_${ g } = min(column${ g }, n4 - 1u);
# for t in range(TM)
    var sum${ t }_${ g } = vec4<f32>();
# endfor
# endfor
# if subgroups
# for p in range(groups)
    let row_of_x${ p } = min(row0 + ${ p * SG }u + lane, last);
    let x${ p } = row_of_x${ p } * k4;
# if gate == "scaled"
    let s${ p } = row_of_x${ p } / params.pixels * k4;
# endif
# endfor
# else
# for t in range(TM)
    let row_of_x${ t } = min(row0 + ${ t }u, last);
    let x${ t } = row_of_x${ t } * k4;
# if gate == "scaled"
    let s${ t } = row_of_x${ t } / params.pixels * k4;
# endif
# endfor
# endif
# set loads = groups if subgroups else TM
# if eights
    let n8 = n4 / 2u;
# for h in range(NG // 2)
    let pair${ h } = min((params.first_group + id.x) * ${ NG // 2 }u + ${ h }u, n8 - 1u);
# endfor
    var row_of_w = 0u;
# endif
    for (var k = 0u; k < k4; k++) {
# for p in range(loads)
# if gate == "scaled"
        let a${ p } = load_x(x${ p } + k) * load_scale(s${ p } + k);
# else
        let a${ p } = load_x(x${ p } + k);
# endif
# endfor
# if eights
# for i in range(4)
# for h in range(NG // 2)
        let pair${ i }_${ h } = w[row_of_w + pair${ h }];
        let w${ i }_${ 2 * h } = pair${ i }_${ h }[0];
        let w${ i }_${ 2 * h + 1 } = pair${ i }_${ h }[1];
# endfor
        row_of_w += n8;
# endfor
# endif
# for g in range(0 if eights else NG)
# if storage == "f32"
# for i in range(4)
        let w${ i }_${ g } = w[(k * 4u + ${ i }u) * n4 + n_${ g }];
# endfor
# elif storage == "f16"
# for i in range(2)
        let pair${ i }_${ g } = w[(k * 2u + ${ i }u) * n4 + n_${ g }];
# for c in "xyzw"
        let half${ i }${ c }_${ g } = unpack2x16float(pair${ i }_${ g }.${ c });
# endfor
        let w${ 2 * i }_${ g } = vec4<f32>(half${ i }x_${ g }.x, half${ i }y_${ g }.x, half${ i }z_${ g }.x, half${ i }w_${ g }.x);
        let w${ 2 * i + 1 }_${ g } = vec4<f32>(half${ i }x_${ g }.y, half${ i }y_${ g }.y, half${ i }z_${ g }.y, half${ i }w_${ g }.y);
# endfor
# else
        let quads_${ g } = w[k * n4 + n_${ g }];
# for i in range(4)
        let w${ i }_${ g } = bytes(quads_${ g }, ${ 24 - 8 * i }u);
# endfor
# endif
# endfor
# for i in range(4)
# for t in range(TM)
# if subgroups
        let b${ i }_${ t } = subgroupBroadcast(a${ t // SG }.${ "xyzw"[i] }, ${ t % SG }u);
# else
        let b${ i }_${ t } = a${ t }.${ "xyzw"[i] };
# endif
# for g in range(NG)
        sum${ t }_${ g } += b${ i }_${ t } * w${ i }_${ g };
# endfor
# endfor
# endfor
    }
# endif
# for g in range(NG)
    let bias${ g } = affine[n_${ g }];
    var factor${ g } = vec4<f32>(1.0);
    if params.scales != 0u {
        factor${ g } = affine[n4 + n_${ g }];
    }
# if storage == "i8"
    factor${ g } *= ${ "5.9604644775390625e-8" };
# endif
# for t in range(TM)
    finish(row0 + ${ t }u, column${ g }, sum${ t }_${ g }, bias${ g }, factor${ g });
# endfor
# endfor
}
