//! What a `config.json` says of the angles of positions, in all the words that it has been said in.

use super::Rope;
use crate::Result;
use crate::json::Object;

/// What the file says of angles in an object of its own: `rope_scaling` where that says anything, else `rope_parameters`, as in
/// transformers.
fn parameters(top: Object<'_>) -> Result<Option<Object<'_>>> {
    match top.object("rope_scaling")? {
        Some(scaling) if scaling.entries().next().is_some() => Ok(Some(scaling)),
        _ => top.object("rope_parameters"),
    }
}

/// Columns of a head that positions turn: `partial_rotary_factor` of them, which of the models known here only Phi 3 and 4 have.
pub(super) fn turned(top: Object<'_>, model_type: &str, head: usize) -> Result<usize> {
    let key = "partial_rotary_factor";
    let parameters = parameters(top)?;
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
/// `rope_parameters` as newer files have them, by the kind of layer where the two differ. Gemma 3 has bases of its own.
pub(super) fn ropes(top: Object<'_>, model_type: &str, (context, head): (usize, usize)) -> Result<(Rope, Rope)> {
    let positive = |key: &str| top.number(key, |v| v > 0.0 && v < 1e12, "a number above 0");
    let third = model_type == "gemma3_text";
    let base = positive("rope_theta")?.unwrap_or(if third { 1e6 } else { 1e4 });
    let local_base = positive("rope_local_base_freq")?.or(third.then_some(1e4));
    let scaling = parameters(top)?;
    let read = |scaling: Object<'_>, base: f64| rope(top, scaling, model_type, (context, head, base));
    let of =
        |key: &'static str| -> Result<Option<Object<'_>>> { Ok(scaling.map(|s| s.object(key)).transpose()?.flatten()) };
    let plain = |theta: f64| Rope::Plain { theta };
    match (of("full_attention")?, of("sliding_attention")?) {
        (None, None) => {}
        (whole, local) => {
            let whole = whole.map(|whole| read(whole, base)).transpose()?.unwrap_or(plain(base));
            let local = local.map(|local| read(local, local_base.unwrap_or(base))).transpose()?;
            let local = local.or(local_base.map(plain)).unwrap_or_else(|| whole.clone());
            return Ok((whole, local));
        }
    }
    let whole = scaling.map_or(Ok(Rope::Plain { theta: base }), |scaling| read(scaling, base))?;
    Ok((whole.clone(), local_base.map_or(whole, plain)))
}

/// The angles that one object describes, with `base` where it names none.
fn rope(
    top: Object<'_>,
    scaling: Object<'_>,
    model_type: &str,
    (context, head, base): (usize, usize, f64),
) -> Result<Rope> {
    let positive = |v: f64| v > 0.0 && v < 1e12;
    let expected = "a number above 0";
    let number = |key: &str| scaling.number(key, positive, expected);
    let missing = |key: &str| scaling.wrong(key, &serde_json::Value::Null, expected);
    let needed = |key: &str| number(key)?.ok_or_else(|| missing(key));
    let theta = number("rope_theta")?.unwrap_or(base);
    let kind = scaling.text("rope_type")?.or(scaling.text("type")?).unwrap_or("default");
    // What stands beside the object comes first, as in transformers; Phi 3 has a length where no file says one.
    let key = "original_max_position_embeddings";
    let original = top.number(key, positive, expected)?.or((model_type == "phi3").then_some(4096.0));
    let original = original.or(number(key)?).unwrap_or(context as f64);
    let stretch = context as f64 / original;
    match kind {
        "default" => Ok(Rope::Plain { theta }),
        // The base grows beyond the positions that the model was made for, where no session goes.
        "dynamic" => Ok(Rope::Plain { theta }),
        "linear" => Ok(Rope::Linear { theta, factor: needed("factor")? }),
        "llama3" => {
            let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
            if low >= high {
                return Err(scaling.wrong("high_freq_factor", &high.into(), "a number above low_freq_factor"));
            }
            Ok(Rope::Llama3 { theta, factor: needed("factor")?, low, high, original })
        }
        "yarn" if model_type != "phi3" => {
            let factor = match number("factor")? {
                Some(factor) => factor,
                None if scaling.names("factor") => stretch,
                None => return Err(missing("factor")),
            };
            let scale = |key: &str| -> Result<Option<f64>> {
                Ok(scaling.number(key, |v| (0.0..1e12).contains(&v), expected)?.filter(|v| *v > 0.0))
            };
            let usual = match (scale("mscale")?, scale("mscale_all_dim")?) {
                (Some(one), Some(all)) => Rope::yarn_attention(factor, one) / Rope::yarn_attention(factor, all),
                _ => Rope::yarn_attention(factor, 1.0),
            };
            let attention = number("attention_factor")?.unwrap_or(usual);
            let (fast, slow) = (number("beta_fast")?.unwrap_or(32.0), number("beta_slow")?.unwrap_or(1.0));
            let whole = scaling.flag("truncate")?.unwrap_or(true);
            Ok(Rope::Yarn { theta, factor, fast, slow, original, attention, whole })
        }
        // The first releases of Phi 3 say `su`, or `yarn`.
        "longrope" | "su" | "yarn" => {
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
            let stretch = number("factor")?.unwrap_or(stretch);
            let attention = number("attention_factor")?.unwrap_or_else(|| Rope::long_attention(stretch, original));
            let (short, long) = (factors("short_factor")?, factors("long_factor")?);
            Ok(Rope::Long { theta, short, long, original, attention })
        }
        other => {
            let instead = "known are default, linear, dynamic, llama3, yarn and longrope";
            Err(scaling.unsupported("rope_type", &other.into(), instead))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DecoderConfig, Rope};
    use serde_json::{Value, json};

    fn read(kind: &str, more: Value) -> Rope {
        let mut all = json!({"model_type": kind, "hidden_size": 64, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 8, "vocab_size": 16, "max_position_embeddings": 256});
        for (key, value) in more.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        DecoderConfig::read("config.json", all.to_string().as_bytes()).unwrap().rope
    }

    #[test]
    fn a_length_beside_the_object_comes_before_the_one_in_it() {
        let inside = json!({"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 32});
        let original = |rope| match rope {
            Rope::Yarn { original, .. } | Rope::Long { original, .. } => original,
            other => panic!("{other:?}"),
        };
        assert_eq!(original(read("llama", json!({"rope_scaling": inside}))), 32.0);
        let both = json!({"rope_scaling": inside, "original_max_position_embeddings": 64});
        assert_eq!(original(read("llama", both)), 64.0);
        assert_eq!(original(read("llama", json!({"rope_scaling": {"type": "yarn", "factor": 3.0}}))), 256.0);
        let factors = json!([1.0, 1.0, 1.0, 1.0]);
        let long = json!({"type": "longrope", "short_factor": factors, "long_factor": factors});
        assert_eq!(original(read("phi3", json!({"rope_scaling": long}))), 4096.0);
        assert_eq!(original(read("llama", json!({"rope_scaling": long}))), 256.0);
    }

    #[test]
    fn yarn_scales_cosines_by_what_the_file_says_of_it() {
        let attention = |more: Value| {
            let mut yarn = json!({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32});
            yarn.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            match read("llama", json!({"rope_parameters": yarn})) {
                Rope::Yarn { attention, whole, factor, .. } => (attention, whole, factor),
                other => panic!("{other:?}"),
            }
        };
        let (usual, half) = (1.0 + 0.1 * 8f64.ln(), 1.0 + 0.05 * 8f64.ln());
        assert_eq!(attention(json!({})), (usual, true, 8.0));
        assert_eq!(attention(json!({"mscale": 1.0, "mscale_all_dim": 0.5})).0, usual / half);
        for alone in [json!({"mscale": 0.7}), json!({"mscale": 1.0, "mscale_all_dim": 0}), json!({"mscale": null})] {
            assert_eq!(attention(alone).0, usual);
        }
        assert_eq!(attention(json!({"mscale": 1.0, "mscale_all_dim": 0.5, "attention_factor": 0.7})).0, 0.7);
        assert_eq!(attention(json!({"truncate": false})), (usual, false, 8.0));
        // 256 positions over 32.
        assert_eq!(attention(json!({"factor": null})), (usual, true, 8.0));
    }

    #[test]
    fn longrope_stretches_by_its_own_factor_before_that_of_the_positions() {
        let attention = |more: Value| {
            let mut long = json!({"rope_type": "longrope", "original_max_position_embeddings": 32,
                "short_factor": [1.0, 1.0, 1.0, 1.0], "long_factor": [2.0, 2.0, 2.0, 2.0]});
            long.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            match read("llama", json!({"rope_parameters": long})) {
                Rope::Long { attention, .. } => attention,
                other => panic!("{other:?}"),
            }
        };
        let of = |stretch: f64| (1.0 + stretch.ln() / 32f64.ln()).sqrt();
        assert_eq!(attention(json!({})), of(8.0));
        assert_eq!(attention(json!({"factor": 4.0})), of(4.0));
        assert_eq!(attention(json!({"factor": 4.0, "attention_factor": 1.4})), 1.4);
    }

    #[test]
    fn the_older_word_comes_before_the_newer_where_it_says_anything() {
        let newer = json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 3e4, "partial_rotary_factor": 0.5});
        let both = |older: Value| json!({"rope_scaling": older, "rope_parameters": newer, "rope_theta": 5e5});
        // The newer one's part of a head is not known of this model, and is not looked at.
        let linear = json!({"rope_type": "linear", "factor": 4.0});
        assert_eq!(read("llama", both(linear)), Rope::Linear { theta: 5e5, factor: 4.0 });
        for nothing in [Value::Null, json!({})] {
            let mut all = both(nothing);
            all["rope_parameters"].as_object_mut().unwrap().remove("partial_rotary_factor");
            assert_eq!(read("llama", all), Rope::Linear { theta: 3e4, factor: 2.0 });
        }
    }

    #[test]
    fn within_the_models_positions_a_dynamic_base_is_plain() {
        let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_theta": 5e5});
        assert_eq!(read("llama", dynamic), Rope::Plain { theta: 5e5 });
    }

    #[test]
    fn layers_with_a_window_do_not_take_the_base_of_the_others() {
        let mut all = json!({"model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 8,
            "num_hidden_layers": 1, "rope_theta": 5e5, "rope_parameters": {"full_attention": {"rope_type": "default"},
            "sliding_attention": {"rope_type": "default"}}});
        let read = |all: &Value| {
            let config = DecoderConfig::read("config.json", all.to_string().as_bytes()).unwrap();
            (config.rope, config.local_rope)
        };
        assert_eq!(read(&all), (Rope::Plain { theta: 5e5 }, Rope::Plain { theta: 1e4 }));
        all["rope_local_base_freq"] = 2e4.into();
        assert_eq!(read(&all).1, Rope::Plain { theta: 2e4 });
    }
}
