//! How the matrices of a session are really multiplied, by the variants that were chosen for them: what was asked for is not always to
//! be had, or not faster.

use super::{Products, Session};
use lampyris_engine::kernels::text::Dense;
use lampyris_engine::kernels::{Format, Source};
use lampyris_engine::{Executor, Plan};

/// How many matrices a run multiplies in which way. A matrix that is cut by rows counts once for each of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Multiplied {
    /// In 32-bit floats.
    pub exact: usize,
    /// In whole numbers.
    pub packed: usize,
    /// In 16-bit floats.
    pub half: usize,
}

impl Multiplied {
    fn of(plan: &Plan, mut sources: impl Iterator<Item = &'static Source>) -> Multiplied {
        let mut found = Multiplied::default();
        for step in &plan.steps {
            let source = sources.next();
            if !["dense", "experts", "grouped_experts"].contains(&step.kernel.name()) {
                continue;
            }
            let input = step.inputs.first().map(|id| plan.tensor(*id).desc.format);
            match input {
                Some(Format::BlockI8) => found.packed += 1,
                _ if source.is_some_and(|source| source.f16) => found.half += 1,
                _ => found.exact += 1,
            }
        }
        found
    }

    fn by(executor: &Executor) -> Multiplied {
        match executor {
            Executor::Gpu(plan) => Multiplied::of(plan.plan(), plan.sources()),
            other => Multiplied::of(other.plan(), std::iter::empty()),
        }
    }

    /// Whether any matrix is multiplied as `products` says.
    pub fn any(self, products: Products) -> bool {
        match products {
            Products::Exact => self.exact > 0,
            Products::Packed => self.packed > 0,
            Products::Half => self.half > 0,
        }
    }

    /// For reports: `exact`, `packed` or `half`, with the number of matrices where it is not all of them.
    pub fn label(self) -> String {
        let all = self.exact + self.packed + self.half;
        let most = if self.half > 0 { (Products::Half, self.half) } else { (Products::Packed, self.packed) };
        match most {
            (_, 0) => Products::Exact.label().to_owned(),
            (products, count) if count == all => products.label().to_owned(),
            (products, count) => format!("{} in {count} of {all} matrices", products.label()),
        }
    }
}

impl Session {
    /// How the matrices of a prompt are multiplied, and those of the tokens after it. Those of a prompt count once for each size that its
    /// runs may have: see [`SessionOptions::chunk`](super::SessionOptions::chunk).
    pub fn multiplied(&self) -> [Multiplied; 2] {
        [self.prefilling(), vec![self.decoding()]].map(|executors| {
            executors.iter().map(Multiplied::by).fold(Multiplied::default(), |all, one| Multiplied {
                exact: all.exact + one.exact,
                packed: all.packed + one.packed,
                half: all.half + one.half,
            })
        })
    }

    /// Why nothing of this session is multiplied as it was asked to, or not what comes after a prompt, in words for its user; `None` where
    /// there is nothing to say.
    pub fn multiplied_otherwise(&self) -> Option<&'static str> {
        let caps = self.model().gpu().current().caps().clone();
        let asked = self.products();
        let [prompt, token] = self.multiplied();
        let could = |plan: &Plan| {
            plan.steps.iter().any(|step| step.kernel.as_any().downcast_ref::<Dense>().is_some_and(|dense| dense.half))
        };
        match asked {
            Products::Exact => None,
            _ if prompt.any(asked) && token.any(asked) => None,
            Products::Packed if prompt.any(asked) => Some(
                "the adapter has no instructions for products of bytes, so tokens after the prompt are multiplied exactly",
            ),
            Products::Packed => {
                Some("no weights of the model are whole numbers times a scale, so all products are exact")
            }
            Products::Half if !self.prefilling().iter().any(|executor| could(executor.plan())) => {
                Some("no weights of the model are quantized, so all products are exact")
            }
            Products::Half if self.model().gpu().current().is_cpu_executor() => {
                Some("the CPU executor has no products of 16-bit floats, so all products are exact")
            }
            Products::Half if !caps.f16 => Some("the adapter has no 16-bit floats, so all products are exact"),
            Products::Half if caps.software => {
                Some("a program that acts as a GPU is not faster with 16-bit floats, so all products are exact")
            }
            Products::Half if prompt.any(asked) => Some(
                "products of 16-bit floats are not faster for single tokens here, so those after the prompt are exact",
            ),
            Products::Half if token.any(asked) => {
                Some("products of 16-bit floats are not faster for prompts here, so those of the prompt are exact")
            }
            Products::Half => {
                Some("products of 16-bit floats are not faster on the adapter, so all products are exact")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_all_is_counted() {
        let of = |exact: usize, packed: usize, half: usize| Multiplied { exact, packed, half };
        assert_eq!(of(9, 0, 0).label(), "exact");
        assert_eq!(of(0, 9, 0).label(), "packed");
        assert_eq!(of(1, 8, 0).label(), "packed in 8 of 9 matrices");
        assert_eq!(of(7, 0, 2).label(), "half in 2 of 9 matrices");
        assert!(of(1, 8, 0).any(Products::Packed) && !of(1, 8, 0).any(Products::Half));
    }
}
