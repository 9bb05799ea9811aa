<#- Pixels of a picture that lies in textures, as bytes: what a kernel's parameters need for them, and the function. -#>
<% macro fields() -%>
    // of two planes: what luma, red chroma for red, blue and red chroma for green, and blue chroma for blue count in units of 2^-16, and
    // the luma that is black
    luma: i32,
    red: i32,
    blue_for_green: i32,
    red_for_green: i32,
    blue: i32,
    black: i32,
<%- endmacro %>

<% macro function(pixels) -%>
<% if pixels == "planes" -%>
fn pixel(place: vec2<i32>) -> vec4<i32> {
    let at = vec2<u32>(place);
    // A view may be smaller than its texture said: the last texel stands for those beyond it.
    let bright = textureLoad(x, min(at, textureDimensions(x) - vec2<u32>(1u)), 0).r;
    let colours = textureLoad(chroma, min(at / 2u, textureDimensions(chroma) - vec2<u32>(1u)), 0).rg;
    let level = (i32(bright * 255.0 + 0.5) - params.black) * params.luma + (1 << 15u);
    let c = vec2<i32>(colours * 255.0 + 0.5) - 128;
    let sum = vec4<i32>(
        level + params.red * c.y,
        level + params.blue_for_green * c.x + params.red_for_green * c.y,
        level + params.blue * c.x,
        255 << 16u,
    );
    return clamp(sum >> vec4<u32>(16u), vec4<i32>(0), vec4<i32>(255));
}
<%- else -%>
// What the bytes in memory were before the texture decoded them (IEC 61966-2-1).
fn encode(linear: vec4<f32>) -> vec4<f32> {
    let low = 12.92 * linear;
    let high = 1.055 * pow(max(linear, vec4<f32>(0.0031308)), vec4<f32>(1.0 / 2.4)) - 0.055;
    let curve = select(high, low, linear <= vec4<f32>(0.0031308));
    return vec4<f32>(curve.rgb, linear.a);
}

fn pixel(place: vec2<i32>) -> vec4<i32> {
    // A view may be smaller than its texture said: the last texel stands for those beyond it.
    let at = min(vec2<u32>(place), textureDimensions(x) - vec2<u32>(1u));
    var v = clamp(textureLoad(x, at, 0), vec4<f32>(0.0), vec4<f32>(1.0));
    if params.srgb != 0u {
        v = encode(v);
    }
    return vec4<i32>(v * 255.0 + 0.5);
}
<%- endif %>
<%- endmacro %>
