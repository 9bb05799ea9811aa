// Draws the scene: one light, the sky's and the ground's glow, and haze towards the horizon; and the sky behind it.

struct View {
    to_screen: mat4x4<f32>,
    from_screen: mat4x4<f32>,
    eye: vec4<f32>,
    sun: vec4<f32>,
}

@group(0) @binding(0) var<uniform> view: View;

const HORIZON = vec3<f32>(0.62, 0.78, 0.90);
const ZENITH = vec3<f32>(0.14, 0.36, 0.72);

struct Corner {
    @location(0) position: vec3<f32>,
    @location(1) normal: vec3<f32>,
    @location(2) colour: vec4<f32>,
    @location(3) x: vec4<f32>,
    @location(4) y: vec4<f32>,
    @location(5) z: vec4<f32>,
    @location(6) origin: vec4<f32>,
}

struct Point {
    @builtin(position) position: vec4<f32>,
    @location(0) world: vec3<f32>,
    @location(1) normal: vec3<f32>,
    @location(2) colour: vec4<f32>,
}

@vertex
fn corner(in: Corner) -> Point {
    let place = mat4x4<f32>(in.x, in.y, in.z, in.origin);
    let world = place * vec4<f32>(in.position, 1.0);
    let normal = (place * vec4<f32>(in.normal, 0.0)).xyz;
    return Point(view.to_screen * world, world.xyz, normal, in.colour);
}

@fragment
fn lit(in: Point) -> @location(0) vec4<f32> {
    let normal = normalize(in.normal);
    let around = mix(vec3<f32>(0.24, 0.25, 0.20), vec3<f32>(0.42, 0.50, 0.60), 0.5 + 0.5 * normal.y);
    let direct = vec3<f32>(0.95, 0.86, 0.70) * max(dot(normal, view.sun.xyz), 0.0);
    let colour = in.colour.rgb * mix(around + direct, vec3<f32>(1.35), in.colour.a);
    let haze = 1.0 - exp(-max(distance(in.world, view.eye.xyz) - 12.0, 0.0) / 75.0);
    return vec4<f32>(mix(colour, HORIZON, haze), 1.0);
}

@fragment
fn shadow() -> @location(0) vec4<f32> {
    return vec4<f32>(0.02, 0.04, 0.08, 0.42);
}

struct Far {
    @builtin(position) position: vec4<f32>,
    @location(0) screen: vec2<f32>,
}

@vertex
fn everywhere(@builtin(vertex_index) index: u32) -> Far {
    let at = vec2<f32>(f32(index & 1u) * 4.0 - 1.0, f32(index >> 1u) * 4.0 - 1.0);
    return Far(vec4<f32>(at, 1.0, 1.0), at);
}

@fragment
fn sky(in: Far) -> @location(0) vec4<f32> {
    let far = view.from_screen * vec4<f32>(in.screen, 1.0, 1.0);
    let way = normalize(far.xyz / far.w - view.eye.xyz);
    let colour = mix(HORIZON, ZENITH, sqrt(clamp(way.y, 0.0, 1.0)));
    let sun = smoothstep(0.9985, 0.9993, dot(way, view.sun.xyz));
    return vec4<f32>(mix(colour, vec3<f32>(1.0, 0.95, 0.8), sun), 1.0);
}
