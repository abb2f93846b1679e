//! Figures of several rounds: the median and how far they spread.
#![allow(dead_code, reason = "each benchmark uses its part of it")]

use std::fmt;

/// The same quantity, once per round.
#[derive(Debug, Default, Clone)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    /// One more round's.
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Half of the rounds are below it.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[half - 1], sorted[half])
        } else {
            sorted[half]
        }
    }

    /// Round by round: what two quantities of one round have suffered from the machine cancels out.
    pub(crate) fn paired(&self, other: &Self, with: impl Fn(f64, f64) -> f64) -> Self {
        self.0.iter().zip(&other.0).map(|(one, two)| with(*one, *two)).collect()
    }
}

impl FromIterator<f64> for Figures {
    fn from_iter<T: IntoIterator<Item = f64>>(figures: T) -> Self {
        Self(figures.into_iter().collect())
    }
}

impl fmt::Display for Figures {
    /// `{:.2}` writes `7.31  (7.12 .. 7.60)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let (min, max) = self.0.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), figure| {
            (min.min(*figure), max.max(*figure))
        });
        write!(f, "{:>9.digits$}  ({min:.digits$} .. {max:.digits$})", self.median())
    }
}
