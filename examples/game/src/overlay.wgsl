// Draws the overlay: rounded boxes, the tail of a speech bubble, letters from the atlas, and the picture that the eye sees.

struct Screen {
    size: vec2<f32>,
}

@group(0) @binding(0) var<uniform> screen: Screen;
@group(0) @binding(1) var atlas: texture_2d<f32>;
@group(0) @binding(2) var seen: texture_2d<f32>;
@group(0) @binding(3) var smooth_sampler: sampler;

struct Quad {
    @location(0) place: vec4<f32>,
    @location(1) texel: vec4<f32>,
    @location(2) colour: vec4<f32>,
    // The kind, and the radius of the corners in pixels.
    @location(3) shape: vec2<f32>,
}

struct Point {
    @builtin(position) position: vec4<f32>,
    @location(0) within: vec2<f32>,
    @location(1) @interpolate(flat) size: vec2<f32>,
    @location(2) texel: vec2<f32>,
    @location(3) @interpolate(flat) colour: vec4<f32>,
    @location(4) @interpolate(flat) shape: vec2<f32>,
}

@vertex
fn corner(@builtin(vertex_index) index: u32, quad: Quad) -> Point {
    let at = vec2<f32>(f32(index & 1u), f32(index >> 1u));
    let pixel = quad.place.xy + at * quad.place.zw;
    let clip = vec2<f32>(2.0, -2.0) * pixel / screen.size + vec2<f32>(-1.0, 1.0);
    let texel = quad.texel.xy + at * quad.texel.zw;
    return Point(vec4<f32>(clip, 0.0, 1.0), at * quad.place.zw, quad.place.zw, texel, quad.colour, quad.shape);
}

// How far a point lies outside a rounded box, in pixels.
fn outside(at: vec2<f32>, size: vec2<f32>, radius: f32) -> f32 {
    let beyond = abs(at - 0.5 * size) - 0.5 * size + radius;
    return length(max(beyond, vec2<f32>(0.0))) + min(max(beyond.x, beyond.y), 0.0) - radius;
}

@fragment
fn painted(in: Point) -> @location(0) vec4<f32> {
    // Read outside of any branch, where neighbours are known.
    let letter = textureLoad(atlas, vec2<i32>(in.texel), 0).r;
    let picture = textureSample(seen, smooth_sampler, in.texel).rgb;
    let cover = clamp(0.5 - outside(in.within, in.size, in.shape.y), 0.0, 1.0);
    if in.shape.x == 1.0 {
        return vec4<f32>(in.colour.rgb, in.colour.a * letter);
    }
    if in.shape.x == 2.0 {
        return vec4<f32>(picture, in.colour.a * cover);
    }
    if in.shape.x == 3.0 {
        let half = 0.5 * in.size.x * (1.0 - in.within.y / in.size.y);
        return vec4<f32>(in.colour.rgb, in.colour.a * clamp(half - abs(in.within.x - 0.5 * in.size.x) + 0.5, 0.0, 1.0));
    }
    return vec4<f32>(in.colour.rgb, in.colour.a * cover);
}
