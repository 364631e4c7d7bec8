//! Payload sizes: one, a range, or some with weights.

use corelane::base::Prng;
use serde::{Deserialize, Serialize};

/// How large payloads are, bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sizes {
    /// All alike.
    Fixed(usize),
    /// Any from one to another, both included, equally often.
    Range {
        /// Smallest.
        from: usize,
        /// Largest.
        to: usize,
    },
    /// Some, each as often as its weight says.
    Weighted {
        /// The sizes.
        sizes: Vec<usize>,
        /// Their weights; as many as sizes.
        weights: Vec<u32>,
    },
}

impl Sizes {
    /// The largest.
    pub fn largest(&self) -> usize {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Range { to, .. } => *to,
            Sizes::Weighted { sizes, .. } => sizes.iter().copied().max().unwrap_or(0),
        }
    }

    /// The smallest.
    pub fn smallest(&self) -> usize {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Range { from, .. } => *from,
            Sizes::Weighted { sizes, .. } => sizes.iter().copied().min().unwrap_or(0),
        }
    }

    /// The size of all, where there is one.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Sizes::Fixed(size) => Some(*size),
            _ => None,
        }
    }

    /// One at random.
    pub fn draw(&self, prng: &mut Prng) -> usize {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Range { from, to } => from + prng.below(to - from + 1),
            Sizes::Weighted { sizes, weights } => {
                let total: usize = weights.iter().map(|weight| *weight as usize).sum();
                let mut at = prng.below(total);
                for (size, weight) in sizes.iter().zip(weights) {
                    if at < *weight as usize {
                        return *size;
                    }
                    at -= *weight as usize;
                }
                self.largest()
            }
        }
    }
}
