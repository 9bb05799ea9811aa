// The choices that go to each expert, in tiles of 32 of one expert each.
//
// A workgroup owns an expert and an invocation a run of choices. Of these each counts those that go to the experts before and those that go
// to its own; the sums of the invocations before it say where its own go.
//@ native
//@ axis path = portable(WG=256)

struct Params {
    // choices
    choices: u32,
    // experts that there are
    experts: u32,
    // tiles that there is room for
    tiles: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [m, chosen], without padding
@group(0) @binding(1) var<storage, read> chosen: array<u32>;
// [tiles, 33]: an expert and its choices
@group(0) @binding(2) var<storage, read_write> tiles: array<u32>;

const NONE = 0xffffffffu;

// Choices of this invocation and of those before it: of the experts before, and of the own one.
var<workgroup> counts: array<vec2<u32>, ${ WG }>;

@compute @workgroup_size(${ WG })
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let expert = group.x;
    let share = (params.choices + ${ WG - 1 }u) / ${ WG }u;
    let begin = min(lane * share, params.choices);
    let end = min(begin + share, params.choices);
    var count = vec2<u32>();
    for (var at = begin; at < end; at++) {
        let other = chosen[at];
        count += select(vec2<u32>(), vec2<u32>(1u), vec2<bool>(other < expert, other == expert));
    }
    counts[lane] = count;
    workgroupBarrier();
    for (var step = 1u; step < ${ WG }u; step *= 2u) {
        var sum = counts[lane];
        if lane >= step {
            sum += counts[lane - step];
        }
        workgroupBarrier();
        counts[lane] = sum;
        workgroupBarrier();
    }
    let all = counts[${ WG - 1 }];
    // An expert begins behind as many tiles as its predecessors' choices fill, and one for each of them that may not be full.
    let first = all.x / 32u + expert;
    var behind = (all.x + all.y) / 32u + expert + 1u;
    if expert + 1u == params.experts {
        behind = params.tiles;
    }
    for (var at = lane; at < (behind - first) * 33u; at += ${ WG }u) {
        let tile = at / 33u;
        let slot = at % 33u;
        if slot == 0u {
            tiles[first * 33u + at] = select(NONE, expert, tile * 32u < all.y);
        } else if tile * 32u + slot > all.y {
            tiles[first * 33u + at] = NONE;
        }
    }
    var next = counts[lane].y - count.y;
    for (var at = begin; at < end; at++) {
        if chosen[at] == expert {
            tiles[(first + next / 32u) * 33u + 1u + next % 32u] = at;
            next++;
        }
    }
}
