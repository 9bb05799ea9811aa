<#- Reading packed matrices `[k, n]`: four rows of four columns at a time, whatever their storage. -#>
<% macro columns(storage) -%>
array<vec4<<% if storage == "f32" %>f32<% else %>u32<% endif %>>>
<%- endmacro %>

<% macro reader(name, storage) -%>
// Rows `4 * k` to `4 * k + 3` of four neighbouring columns of `${ name }`, one row a column of the result; `n4` is the width in
// fours and `n` the place in it.
<%- if storage == "i8" %>
// Each value is 2^24 times too large, because the bytes are moved to the top of their words and never shifted back.
<%- endif %>
fn load_${ name }(k: u32, n4: u32, n: u32) -> mat4x4<f32> {
<%- if storage == "f32" %>
    let at = k * 4u * n4 + n;
    return mat4x4<f32>(${ name }[at], ${ name }[at + n4], ${ name }[at + 2u * n4], ${ name }[at + 3u * n4]);
<%- elif storage == "f16" %>
    let at = k * 2u * n4 + n;
    let low = ${ name }[at];
    let high = ${ name }[at + n4];
<%- for c in "xyzw" %>
    let low_${ c } = unpack2x16float(low.${ c });
    let high_${ c } = unpack2x16float(high.${ c });
<%- endfor %>
    return mat4x4<f32>(
        vec4<f32>(low_x.x, low_y.x, low_z.x, low_w.x),
        vec4<f32>(low_x.y, low_y.y, low_z.y, low_w.y),
        vec4<f32>(high_x.x, high_y.x, high_z.x, high_w.x),
        vec4<f32>(high_x.y, high_y.y, high_z.y, high_w.y),
    );
<%- else %>
    let quads = ${ name }[k * n4 + n];
    let top = vec4<u32>(0xff000000u);
    return mat4x4<f32>(
        vec4<f32>(bitcast<vec4<i32>>(quads << vec4<u32>(24u))),
        vec4<f32>(bitcast<vec4<i32>>((quads << vec4<u32>(16u)) & top)),
        vec4<f32>(bitcast<vec4<i32>>((quads << vec4<u32>(8u)) & top)),
        vec4<f32>(bitcast<vec4<i32>>(quads & top)),
    );
<%- endif %>
}
<%- endmacro %>

<% macro unit(storage) -%>
${ "5.9604644775390625e-8" if storage == "i8" else "1.0" }
<%- endmacro %>
