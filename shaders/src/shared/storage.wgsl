<#- Reading and writing rows of four values, whatever their storage. Import the macros and emit one function a binding. -#>
<% macro rows(storage) -%>
<% if storage == "f16" %>array<vec2<u32>><% elif storage == "i8" %>array<u32><% else %>array<vec4<f32>><% endif %>
<%- endmacro %>

<% macro reader(name, storage) -%>
// Four neighbouring values of `${ name }`.
fn load_${ name }(i: u32) -> vec4<f32> {
<%- if storage == "f16" %>
    let halves = ${ name }[i];
    return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
<%- elif storage == "i8" %>
    let bytes = vec4<u32>(${ name }[i]) << vec4<u32>(24u, 16u, 8u, 0u);
    return vec4<f32>(bitcast<vec4<i32>>(bytes) >> vec4<u32>(24u));
<%- else %>
    return ${ name }[i];
<%- endif %>
}
<%- endmacro %>

<% macro writer(name, storage) -%>
// Stores four neighbouring values of `${ name }`.
fn store_${ name }(i: u32, v: vec4<f32>) {
<%- if storage == "f16" %>
    ${ name }[i] = vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
<%- else %>
    ${ name }[i] = v;
<%- endif %>
}
<%- endmacro %>
