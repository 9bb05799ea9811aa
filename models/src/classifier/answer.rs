//! What a network says of a picture, and its classes by their probabilities.

use crate::labels::Labels;
use std::sync::Arc;

/// One class that a picture may show.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Position among the network's outputs.
    pub index: usize,
    /// What it is called.
    pub label: String,
    /// From 0 to 1.
    pub probability: f32,
}

/// What a network says of one picture.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The last layer's outputs, one a class.
    pub logits: Vec<f32>,
    /// Their softmax.
    pub probabilities: Vec<f32>,
    /// The vector that the network hands to its head.
    pub features: Vec<f32>,
    pub(super) labels: Arc<Labels>,
}

impl Answer {
    /// The `n` likeliest classes, likeliest first; among equals the lower index.
    pub fn top(&self, n: usize) -> Vec<Prediction> {
        let mut order: Vec<usize> = (0..self.probabilities.len()).collect();
        order.sort_by(|a, b| self.probabilities[*b].total_cmp(&self.probabilities[*a]).then(a.cmp(b)));
        order
            .into_iter()
            .take(n)
            .map(|index| Prediction {
                index,
                label: self.labels.get(index).map_or_else(|| format!("class {index}"), str::to_owned),
                probability: self.probabilities[index],
            })
            .collect()
    }
}
