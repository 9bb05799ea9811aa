<#- The activation epilogue: the fields it adds to a kernel's parameters, and the function. A kernel with two activations
    names the second one's fields and function itself. -#>
<% macro fields(field="act") -%>
    // The activation, `clamp(v * ${ field }_a + ${ field }_b, ${ field }_low, ${ field }_high) * (${ field }_c + ${ field }_d * v)`.
    ${ field }_a: f32,
    ${ field }_b: f32,
    ${ field }_low: f32,
    ${ field }_high: f32,
    ${ field }_c: f32,
    ${ field }_d: f32,
<%- endmacro %>

<% macro function(name="activate", field="act") -%>
// The activation that the parameters describe, value by value.
fn ${ name }(v: vec4<f32>) -> vec4<f32> {
    let gate = clamp(v * params.${ field }_a + params.${ field }_b, vec4<f32>(params.${ field }_low), vec4<f32>(params.${ field }_high));
    return gate * (params.${ field }_c + params.${ field }_d * v);
}
<%- endmacro %>
