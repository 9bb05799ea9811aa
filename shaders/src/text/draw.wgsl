// The next token drawn from what penalties, temperature, top-k, top-p and min-p leave of the logits, put after the run's tokens, and
// the position moved to it.
//
// One workgroup; an invocation owns every WG-th group of four tokens, from their counts to their draws. A cut is found by its key, a
// whole number in the order of the scores, in rounds that look at seven thresholds each. llvmpipe ends the loops of
// a shader after 65535 turns of all together; these take 51 thousand at most, for 262144 tokens in the vocabulary and in the session.
# set WG = 256
# set THRESHOLDS = 7

struct Params {
    // tokens of the vocabulary
    vocabulary: u32,
    // room for tokens
    context: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// [1, vocabulary]
@group(0) @binding(1) var<storage, read> logits: array<vec4<f32>>;
// [10]: see DrawSettings
@group(0) @binding(2) var<storage, read> settings: array<u32>;
// [context]: the session's tokens
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
// [2]: tokens in the cache, tokens that this run adds
@group(0) @binding(4) var<storage, read_write> cursor: array<u32>;
// [1]
@group(0) @binding(5) var<storage, read_write> drawn: array<u32>;
// [1]
@group(0) @binding(6) var<storage, read_write> log_probability: array<f32>;
// [1, vocabulary]: first how often the session has each token, then its score
@group(0) @binding(7) var<storage, read_write> scores: array<vec4<f32>>;

// No token: larger than every token.
const NONE = 0xffffffffu;
// The score of a token that is never drawn, below all others.
const NEVER = -3.4028234e38;
// Scores and logits are held between these.
const LOWEST = -3e38;
const HIGHEST = 3e38;
// Eight parts a round: the first round takes distances from the top, eleven more narrow 32 bits to one key.
const ROUNDS = 12u;

// Sums of invocations, of a threshold each: tokens, and their mass.
var<workgroup> table: array<array<vec2<f32>, ${ WG }>, ${ THRESHOLDS }>;

fn setting(at: u32) -> f32 {
    return bitcast<f32>(settings[at]);
}

// A whole number that is larger for a larger score.
fn key_of(score: f32) -> u32 {
    let bits = bitcast<u32>(score);
    return select(bits ^ 0x80000000u, ~bits, bits >= 0x80000000u);
}

// A token's mass relative to that of the likeliest.
fn mass(score: f32, top: f32) -> f32 {
    return exp(max(score - top, -100.0));
}

// Adds up the table's columns into their first rows.
fn add_up(lane: u32) {
    workgroupBarrier();
    for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
        if lane < half {
# for t in range(THRESHOLDS)
            table[${ t }][lane] += table[${ t }][lane + half];
# endfor
        }
        workgroupBarrier();
    }
}

// The largest key, from `start` on, from which on tokens and mass reach `wanted`: their number, or with `by_mass` their mass.
fn cut(lane: u32, start: u32, top: f32, wanted: f32, by_mass: bool) -> u32 {
    let v4 = (params.vocabulary + 3u) / 4u;
    var low = start;
    var high = key_of(top) + 1u;
    // tokens from `low` on, and from `high` on
    var below = f32(params.vocabulary);
    var above = 0.0;
    for (var round = 0u; round < ROUNDS; round += 1u) {
        // With one token or one key left between the two, it is known which are kept.
        let open = high - low > 1u && below - above > 1.0;
        let step = (high - low + 7u) / 8u;
# for t in range(THRESHOLDS)
        let at${ t } = clamp(select(low + ${ t + 1 }u * step, key_of(max(top - ${ 32.0 / 2 ** t }, LOWEST)), round == 0u), low, high);
        var sum${ t } = vec2<f32>();
# endfor
        if open {
            for (var at = lane; at < v4; at += ${ WG }u) {
                let four = scores[at];
# for i in range(4)
                let key${ i } = key_of(four[${ i }]);
                if key${ i } >= low {
                    var one = vec2(1.0, 0.0);
                    if by_mass {
                        one.y = mass(four[${ i }], top);
                    }
# for t in range(THRESHOLDS)
                    sum${ t } += select(vec2<f32>(), one, key${ i } >= at${ t });
# endfor
                }
# endfor
            }
        }
# for t in range(THRESHOLDS)
        table[${ t }][lane] = sum${ t };
# endfor
        add_up(lane);
        if open {
# for t in range(THRESHOLDS)
            if at${ t } < high {
                let sum = table[${ t }][0];
                if select(sum.x, sum.y, by_mass) >= wanted {
                    low = at${ t };
                    below = sum.x;
                } else {
                    high = at${ t };
                    above = sum.x;
                }
            }
# endfor
        }
        workgroupBarrier();
    }
    return low;
}

// The product's low and high word.
fn product(a: u32, b: u32) -> vec2<u32> {
    let middle = (a >> 16u) * (b & 0xffffu) + (((a & 0xffffu) * (b & 0xffffu)) >> 16u);
    let cross = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return vec2(a * b, (a >> 16u) * (b >> 16u) + (middle >> 16u) + (cross >> 16u));
}

// Philox4x32-10 of a token and a position, keyed by the seed (Salmon et al. 2011); two of its four words.
fn random(token: u32, position: u32) -> vec2<u32> {
    var counter = vec4(token, position, 0u, 0u);
    var key = vec2(settings[8], settings[9]);
    for (var round = 0u; round < 10u; round += 1u) {
        let first = product(0xd2511f53u, counter.x);
        let second = product(0xcd9e8d57u, counter.z);
        counter = vec4(second.y ^ counter.y ^ key.x, second.x, first.y ^ counter.w ^ key.y, first.x);
        key += vec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return counter.xy;
}

// 2 atanh z for abs(z) below 0.18.
fn twice_atanh(z: f32) -> f32 {
    let s = z * z;
    return 2.0 * z * (1.0 + s * (1.0 / 3.0 + s * (1.0 / 5.0 + s * (1.0 / 7.0 + s / 9.0))));
}

// The natural logarithm of a normal number: WGSL's own may be wrong by 5e-7 near one.
fn ln(x: f32) -> f32 {
    // From the root of a half to the root of two.
    let bits = bitcast<u32>(x) - 0x3f3504f3u;
    let exponent = f32(bitcast<i32>(bits) >> 23u);
    let m = bitcast<f32>((bits & 0x7fffffu) + 0x3f3504f3u);
    return exponent * 0.6931472 + twice_atanh((m - 1.0) / (m + 1.0));
}

// ln(1 + x) for x above -1, with all digits near 0.
fn ln_1p(x: f32) -> f32 {
    if abs(x) < 0.29 {
        return twice_atanh(x / (2.0 + x));
    }
    return ln(1.0 + x);
}

// A number of the standard Gumbel distribution: -ln(-ln(1 - u)) with u even in 0 to 1, to 24 digits however small it is.
fn gumbel(words: vec2<u32>) -> f32 {
    let u = bitcast<f32>(((126u - countLeadingZeros(words.x)) << 23u) | (words.y >> 9u));
    return -ln(-ln_1p(-u));
}

@compute @workgroup_size(${ WG })
fn main(@builtin(local_invocation_index) lane: u32) {
    let v4 = (params.vocabulary + 3u) / 4u;
    let position = cursor[0] + cursor[1];
    let greedy = setting(0u) == 0.0;
    let factor = select(setting(0u), 1.0, greedy);
    let penalized = setting(4u) != 1.0 || setting(6u) != 0.0 || setting(7u) != 0.0;

    if penalized {
        for (var at = lane; at < v4; at += ${ WG }u) {
            scores[at] = vec4<f32>();
        }
        let seen = min(position, params.context);
        for (var at = 0u; at < seen; at += 8u) {
# for i in range(8)
            let token${ i } = tokens[min(at + ${ i }u, seen - 1u)];
            if at + ${ i }u < seen && token${ i } < params.vocabulary && (token${ i } / 4u) % ${ WG }u == lane {
                scores[token${ i } / 4u][token${ i } % 4u] += 1.0;
            }
# endfor
        }
    }

    var tops = vec2(NEVER, NEVER);
    for (var at = lane; at < v4; at += ${ WG }u) {
        let four = logits[at];
        var counts = vec4<f32>();
        if penalized {
            counts = scores[at];
        }
        var made = vec4(NEVER);
# for i in range(4)
        // NaN and minus infinity are left out.
        if at * 4u + ${ i }u < params.vocabulary && four[${ i }] >= LOWEST {
            var score = min(four[${ i }], HIGHEST);
            tops.y = max(tops.y, score);
            if counts[${ i }] > 0.0 {
                score *= select(setting(4u), setting(5u), score > 0.0);
                score -= setting(6u) + setting(7u) * counts[${ i }];
            }
            score = clamp(score * factor, LOWEST, HIGHEST);
            // One zero, and no number so small that an adapter may take it for zero.
            score = select(score, 0.0, abs(score) < 1.1754944e-38);
            tops.x = max(tops.x, score);
            made[${ i }] = score;
        }
# endfor
        scores[at] = made;
    }
    table[0][lane] = tops;
    workgroupBarrier();
    for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
        if lane < half {
            table[0][lane] = max(table[0][lane], table[0][lane + half]);
        }
        workgroupBarrier();
    }
    let top = table[0][0].x;
    let raw_top = table[0][0].y;
    workgroupBarrier();

    // First by number, then by mass.
    var kept = key_of(LOWEST);
    // the mass of all tokens by their logits, without that of one of the likeliest, which is 1
    var raw_rest = 0.0;
    for (var stage = 0u; stage < 2u; stage += 1u) {
        var wanted = f32(settings[1]);
        if stage == 1u {
            var sums = vec2<f32>();
            var likeliest = 0.0;
            for (var at = lane; at < v4; at += ${ WG }u) {
                let four = scores[at];
                let raw = logits[at];
# for i in range(4)
                if key_of(four[${ i }]) >= kept {
                    sums.x += mass(four[${ i }], top);
                }
                if four[${ i }] >= LOWEST {
                    let likely = raw[${ i }] >= raw_top;
                    sums.y += select(mass(raw[${ i }], raw_top), 0.0, likely);
                    likeliest += select(0.0, 1.0, likely);
                }
# endfor
            }
            table[0][lane] = sums;
            table[1][lane].x = likeliest;
            add_up(lane);
            raw_rest = table[0][0].y + (table[1][0].x - 1.0);
            wanted = setting(2u) * table[0][0].x;
            workgroupBarrier();
        }
        if select(setting(2u) < 1.0, settings[1] != 0u, stage == 0u) {
            kept = cut(lane, kept, top, wanted, stage == 1u);
        }
    }
    kept = max(kept, key_of(max(top + setting(3u), LOWEST)));

    var best = vec2(0.0, -1.0);
    for (var at = lane; at < v4; at += ${ WG }u) {
        let four = scores[at];
# for i in range(4)
        if key_of(four[${ i }]) >= kept {
            var value = four[${ i }];
            if !greedy {
                value = value - top + gumbel(random(at * 4u + ${ i }u, position));
            }
            if best.y < 0.0 || value > best.x {
                best = vec2(value, f32(at * 4u + ${ i }u));
            }
        }
# endfor
    }
    table[0][lane] = best;
    workgroupBarrier();
    for (var half = ${ WG // 2 }u; half > 0u; half /= 2u) {
        if lane < half {
            let mine = table[0][lane];
            let other = table[0][lane + half];
            if other.y >= 0.0 && (mine.y < 0.0 || other.x > mine.x || (other.x == mine.x && other.y < mine.y)) {
                table[0][lane] = other;
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let found = table[0][0].y;
        var token = NONE;
        var likely = 0.0;
        if found >= 0.0 {
            token = u32(found);
            likely = min(logits[token / 4u][token % 4u], HIGHEST) - raw_top - ln_1p(raw_rest);
        }
        if position < params.context {
            tokens[position] = token;
        }
        cursor[0] = position;
        cursor[1] = 1u;
        drawn[0] = token;
        log_probability[0] = likely;
    }
}
