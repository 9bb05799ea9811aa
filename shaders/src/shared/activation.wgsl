<#- The activation epilogue: the fields it adds to a kernel's parameters, and the function. -#>
<% macro fields() -%>
    // The activation, `clamp(v * act_a + act_b, act_low, act_high) * (act_c + act_d * v)`.
    act_a: f32,
    act_b: f32,
    act_low: f32,
    act_high: f32,
    act_c: f32,
    act_d: f32,
<%- endmacro %>

<% macro function() -%>
// The activation that the parameters describe, value by value.
fn activate(v: vec4<f32>) -> vec4<f32> {
    let gate = clamp(v * params.act_a + params.act_b, vec4<f32>(params.act_low), vec4<f32>(params.act_high));
    return gate * (params.act_c + params.act_d * v);
}
<%- endmacro %>
