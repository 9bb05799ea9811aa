//! What a `config.json` says of the angles of positions, in all the words that it has been said in.

use super::Rope;
use crate::Result;
use crate::json::Object;

/// Columns of a head that positions turn: `partial_rotary_factor` of them, which of the models known here only Phi 3 and 4 have.
pub(super) fn turned(top: Object<'_>, model_type: &str, head: usize) -> Result<usize> {
    let key = "partial_rotary_factor";
    let parameters = match top.object("rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => top.object("rope_scaling")?,
    };
    let kind = |kind: &'static str| parameters.map(|all| all.object(kind)).transpose().map(Option::flatten);
    let (whole, local) = (kind("full_attention")?, kind("sliding_attention")?);
    let mut turned = head;
    for object in [Some(top), parameters, whole, local].into_iter().flatten() {
        let share = |share: f64| share > 0.0 && share <= 1.0;
        let Some(share) = object.number(key, share, "a number above 0 and up to 1")? else { continue };
        if share == 1.0 {
            continue;
        }
        if model_type != "phi3" {
            let instead = "known are models whose positions turn whole heads, and phi3";
            return Err(object.unsupported(key, &share.into(), instead));
        }
        turned = (head as f64 * share) as usize;
        if turned == 0 || !turned.is_multiple_of(2) {
            return Err(object.wrong(key, &share.into(), "a share of a head with an even number of columns"));
        }
    }
    Ok(turned)
}

/// Angles of layers that see everything and of those with a window: `rope_theta` and `rope_scaling` with `rope_local_base_freq`, or
/// `rope_parameters` as newer files have them, by the kind of layer where the two differ. Gemma 3, the `third`, has bases of its own.
pub(super) fn ropes(top: Object<'_>, third: bool, (context, head): (usize, usize)) -> Result<(Rope, Rope)> {
    let bases = if third { [1e6, 1e4] } else { [1e4; 2] };
    let scaling = match top.object("rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => top.object("rope_scaling")?,
    };
    if let Some(whole) = scaling.map(|s| s.object("full_attention")).transpose()?.flatten() {
        let local = scaling.map(|s| s.object("sliding_attention")).transpose()?.flatten();
        let whole = rope(top, Some(whole), (context, head, bases[0]))?;
        let local = local.map(|local| rope(top, Some(local), (context, head, bases[1]))).transpose()?;
        return Ok((whole.clone(), local.unwrap_or(whole)));
    }
    let whole = rope(top, scaling, (context, head, bases[0]))?;
    let local = top.number("rope_local_base_freq", |v| v > 0.0 && v < 1e12, "a number above 0")?;
    let local = local.or(third.then_some(bases[1]));
    Ok((whole.clone(), local.map_or(whole, |theta| Rope::Plain { theta })))
}

/// The angles that one object describes, and `rope_theta` beside it where it names none, `base` where neither does.
fn rope(top: Object<'_>, scaling: Option<Object<'_>>, (context, head, base): (usize, usize, f64)) -> Result<Rope> {
    let positive = |v: f64| v > 0.0 && v < 1e12;
    let expected = "a number above 0";

    let theta = match scaling.map(|s| s.number("rope_theta", positive, expected)).transpose()?.flatten() {
        Some(theta) => theta,
        None => top.number("rope_theta", positive, expected)?.unwrap_or(base),
    };
    let Some(scaling) = scaling else { return Ok(Rope::Plain { theta }) };
    let kind = scaling.text("rope_type")?.or(scaling.text("type")?).unwrap_or("default").to_owned();
    let number = |key: &str| scaling.number(key, positive, expected);
    let needed = |key: &str| number(key)?.ok_or_else(|| scaling.wrong(key, &serde_json::Value::Null, expected));
    let original = match number("original_max_position_embeddings")? {
        Some(original) => original,
        None => top.number("original_max_position_embeddings", positive, expected)?.unwrap_or(context as f64),
    };
    match kind.as_str() {
        "default" => Ok(Rope::Plain { theta }),
        "linear" => Ok(Rope::Linear { theta, factor: needed("factor")? }),
        "llama3" => {
            let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
            if low >= high {
                return Err(scaling.wrong("high_freq_factor", &high.into(), "a number above low_freq_factor"));
            }
            Ok(Rope::Llama3 { theta, factor: needed("factor")?, low, high, original })
        }
        "yarn" => {
            if let Some(value) = scaling.get("mscale").or(scaling.get("mscale_all_dim")) {
                return Err(scaling.unsupported("mscale", value, "yarn is known with attention_factor only"));
            }
            let factor = needed("factor")?;
            let attention = number("attention_factor")?.unwrap_or_else(|| Rope::yarn_attention(factor));
            let (fast, slow) = (number("beta_fast")?.unwrap_or(32.0), number("beta_slow")?.unwrap_or(1.0));
            Ok(Rope::Yarn { theta, factor, fast, slow, original, attention })
        }
        // The first releases of Phi 3 say `su`.
        "longrope" | "su" => {
            let factors = |key: &str| -> Result<Vec<f64>> {
                let list = scaling.get(key).and_then(|value| value.as_array()).map(Vec::as_slice).unwrap_or_default();
                let factors: Vec<f64> =
                    list.iter().filter_map(serde_json::Value::as_f64).filter(|v| positive(*v)).collect();
                let there = scaling.get(key).unwrap_or(&serde_json::Value::Null);
                if factors.len() == head / 2 {
                    Ok(factors)
                } else {
                    Err(scaling.wrong(key, there, "a number above 0 for each pair of a head"))
                }
            };
            let attention = number("attention_factor")?.unwrap_or_else(|| Rope::long_attention(context, original));
            Ok(Rope::Long {
                theta,
                short: factors("short_factor")?,
                long: factors("long_factor")?,
                original,
                attention,
            })
        }
        other => {
            Err(scaling.unsupported("rope_type", &other.into(), "known are default, linear, llama3, yarn and longrope"))
        }
    }
}
