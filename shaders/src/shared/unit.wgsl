<#- What the units of a layer compute of their sums, chosen by the parameter `activation`. -#>
<% macro functions() -%>
// erf(v), Abramowitz and Stegun 7.1.26.
fn error_function(v: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(v));
    let sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(v) * (1.0 - sum * exp(-v * v));
}

fn activate(v: f32) -> f32 {
    switch params.activation {
        case 1u: { return v / (1.0 + exp(-v)); }
        case 2u: {
            // The argument is bounded because tanh overflows on some drivers.
            let inner = clamp(0.7978845608 * (v + 0.044715 * v * v * v), -20.0, 20.0);
            return 0.5 * v * (1.0 + tanh(inner));
        }
        case 3u: { return 0.5 * v * (1.0 + error_function(v * 0.7071067811865476)); }
        case 4u: { return max(v, 0.0); }
        default: { return v; }
    }
}
<%- endmacro %>
