//! What a certificate says of products: how language models are multiplied on an adapter when exact, packed or half ones are asked for, how
//! far logits may then lie from exact ones, and, in the full form, how far those of the bundled model do.

use super::certificate::Extent;
use crate::failure::Failure;
use crate::output;
use lampyris::Gpu;
use lampyris::models::decoder::Products;
use serde::Serialize;

/// Every way to ask for products.
const ALL: [Products; 3] = [Products::Exact, Products::Packed, Products::Half];

/// One way to ask for products, on one adapter.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<String>,
    asked: &'static str,
    /// Whether prompts are multiplied so, and the tokens after them; exactly otherwise.
    prompts: bool,
    answers: bool,
    /// How far logits may lie from exact ones of the CPU executor, relative to the largest.
    tolerance: f64,
    /// How far those of the bundled model do; absent where that was not measured.
    worst_error: Option<f64>,
}

/// All ways on one adapter.
#[derive(Debug)]
pub(super) struct OnAdapter {
    adapter: String,
    lines: Vec<Line>,
}

impl OnAdapter {
    /// What holds for `gpu`; the full form measures.
    pub(super) fn of(gpu: &Gpu, extent: Extent) -> Result<OnAdapter, Failure> {
        let errors = match extent {
            Extent::Short => Vec::new(),
            Extent::Full => measured::errors(gpu, ALL)?,
        };
        let line = |(at, products): (usize, Products)| {
            let [prompts, answers] = products.on(gpu.caps());
            let (asked, tolerance) = (products.label(), f64::from(products.tolerance()));
            Line { adapter: None, asked, prompts, answers, tolerance, worst_error: errors.get(at).copied() }
        };
        let lines = ALL.into_iter().enumerate().map(line).collect();
        Ok(OnAdapter { adapter: gpu.summary().to_string(), lines })
    }

    /// As data; each line names the adapter when there may be several.
    pub(super) fn lines(&self, named: bool) -> impl Iterator<Item = Line> + '_ {
        self.lines.iter().map(move |line| Line { adapter: named.then(|| self.adapter.clone()), ..line.clone() })
    }

    /// For people.
    pub(super) fn table(&self, named: bool) -> String {
        let on = if named { format!(" on {}", output::one_line(&self.adapter)) } else { String::new() };
        let mut text = format!("\nproducts of language models{on}: how far logits may lie from exact ones\n");
        for line in &self.lines {
            let used = match (line.prompts, line.answers) {
                (true, true) => "prompts and answers",
                (true, false) => "prompts; answers are multiplied exactly here",
                (false, true) => "answers; prompts are multiplied exactly here",
                (false, false) => "not here: whoever asks for it is given exact products",
            };
            let found = line.worst_error.map(|error| format!(", {error:.1e} seen")).unwrap_or_default();
            text += &format!("  {:8} {:8.1e}{found}  {used}\n", line.asked, line.tolerance);
        }
        text + "  mixtures of experts are held to that with exact products alone: others may turn the choice of an expert\n"
    }

    /// Fails where the bundled model's logits lie too far off.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let wrong = |line: &&Line| line.worst_error.is_some_and(|error| error > line.tolerance);
        self.lines.iter().find(wrong).map_or(Ok(()), |line| {
            let (adapter, products, allowed) = (self.adapter.clone(), line.asked, line.tolerance);
            Err(Failure::Products { adapter, products, apart: line.worst_error.unwrap_or(f64::INFINITY), allowed })
        })
    }
}

#[cfg(feature = "bundled")]
mod measured {
    //! The bundled model's logits, beside those of the CPU executor.

    use crate::failure::Failure;
    use lampyris::Gpu;
    use lampyris::engine::kernels::Noise;
    use lampyris::models::Decoder;
    use lampyris::models::decoder::{Products, SessionOptions};

    /// Tokens of the text, more than one run takes.
    const TOKENS: usize = 40;

    /// How far the logits of each of `all` lie from exact ones, relative to the largest.
    pub(super) fn errors<const N: usize>(gpu: &Gpu, all: [Products; N]) -> Result<Vec<f64>, Failure> {
        let files = lampyris::bundled::storyteller()?.decoder;
        let logits = |gpu: &Gpu, products: Products| -> Result<Vec<f32>, Failure> {
            let model = Decoder::new(gpu, files.clone())?;
            let mut noise = Noise::new(1);
            let vocabulary = model.config().vocabulary as u64;
            let text: Vec<u32> = (0..TOKENS).map(|_| (noise.bits() % vocabulary) as u32).collect();
            let mut session = gpu.block_on(model.session(SessionOptions::from(TOKENS).products(products)))?;
            gpu.block_on(session.feed(&text))?;
            Ok(gpu.block_on(session.logits())?)
        };
        let expected = logits(&Gpu::cpu_executor(), Products::Exact)?;
        let largest = expected.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
        let error = |products: Products| -> Result<f64, Failure> {
            let found = logits(gpu, products)?;
            let apart = found.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs()));
            // What is no number is infinitely wrong.
            let worst =
                apart.fold(0.0, |most: f64, apart| if apart.is_nan() { f64::INFINITY } else { most.max(apart) });
            Ok(worst / f64::from(largest))
        };
        all.into_iter().map(error).collect()
    }
}

#[cfg(not(feature = "bundled"))]
mod measured {
    //! Nothing, where no model is part of the program.

    use crate::failure::Failure;
    use lampyris::Gpu;
    use lampyris::models::decoder::Products;

    pub(super) fn errors<const N: usize>(_: &Gpu, _: [Products; N]) -> Result<Vec<f64>, Failure> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop at once")]

    use super::*;

    #[test]
    fn products_beyond_their_tolerance_fail_and_are_named() {
        let on = OnAdapter::of(&Gpu::cpu_executor(), Extent::Short).unwrap();
        assert!(on.verdict().is_ok() && on.lines(true).all(|line| line.adapter.is_some()));
        let with = |error: f64| {
            let mut on = OnAdapter { adapter: "made up".to_owned(), lines: on.lines.clone() };
            on.lines[1].worst_error = Some(error);
            on
        };
        assert!(with(0.049).verdict().is_ok());
        assert!(with(0.01).table(false).contains("1.0e-2 seen"));
        for wrong in [0.051, f64::INFINITY] {
            let failure = with(wrong).verdict().unwrap_err();
            assert!(failure.to_string().contains("made up gives logits with packed products"), "{failure}");
            assert_eq!(failure.code(), 1);
        }
    }

    #[cfg(feature = "bundled")]
    #[test]
    fn the_bundled_models_logits_move_as_far_as_products_round() {
        let [exact, packed, half] = measured::errors(&Gpu::cpu_executor(), ALL).unwrap()[..] else { panic!("three") };
        // The CPU executor has no 16-bit floats.
        assert_eq!((exact, half), (0.0, 0.0));
        assert!(packed > 1e-3 && packed < f64::from(Products::Packed.tolerance()), "{packed:e}");
    }

    #[test]
    fn what_an_adapter_lacks_is_said() {
        let on = OnAdapter::of(&Gpu::cpu_executor(), Extent::Short).unwrap();
        let table = on.table(false);
        assert!(table.contains("exact      1.0e-3  prompts and answers"), "{table}");
        assert!(table.contains("half       1.5e-2  not here"), "{table}");
    }
}
