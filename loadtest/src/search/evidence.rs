//! What paired rounds say about one plan: a bet that gets rich only where the plan is better.
//!
//! In each round the plan and the baseline run once, in random order. Where the plan is no better,
//! its chance to win a round is one half at most: whatever noise the machine makes and however it
//! drifts, the order was drawn, so each of the two is as likely to have had the better place. That
//! is all the procedure relies on; it knows of no distribution of the noise.
//!
//! Somebody who bets on the plan, round by round and fairly, against that half, begins with 1 and
//! has the worth W after some rounds. He spreads his capital evenly over all chances p from ½ to 1;
//! the part that believes in p is multiplied by 2p at a win and by 2(1 − p) at a loss, so
//! W = ∫ 2 (2p)ʷ (2(1 − p))ⁿ⁻ʷ dp. If the plan is no better, W is a supermartingale and
//! P(W ever reaches 1/α) ≤ α (Ville's inequality). Hence one may look after *every* round, stop
//! whenever one likes or whenever the budget ends, and the error stays below α: no plan of looks
//! has to be made and none to be paid for. With k plans each has to reach k/α (Bonferroni).
//! Seven wins in a row make 31.9, more than the 20 that α = 5 % asks for; six make 18.1.
//!
//! Invariants worth naming:
//! * ties are losses;
//! * [`bounds`] hold at every look at once, and the lower one is above 1 exactly where the bet on
//!   "better" has reached the threshold.

/// What a better worth `1 / level` is asked for: how often at most a plan that is no better wins.
pub const LEVEL: f64 = 0.05;

/// What a bet on a chance above one half is worth after `wins` of `rounds`.
///
/// With C the binomial coefficient it is Σ C(n + 1, k) / ((n + 1) C(n, w)) over k = 0 … w, summed
/// from its last term on, so that nothing overflows.
///
/// # Panics
/// With more wins than rounds.
pub fn worth(wins: usize, rounds: usize) -> f64 {
    assert!(wins <= rounds, "a round is won once");
    let whole = (rounds + 1) as f64;
    let mut term = whole / (rounds + 1 - wins) as f64;
    let mut sum = 0.0;
    for k in (0..=wins).rev() {
        sum += term;
        term *= k as f64 / (rounds + 2 - k) as f64;
    }
    sum / whole
}

/// How many of `ratios` are above `bar`.
pub fn wins(ratios: &[f64], bar: f64) -> usize {
    ratios.iter().filter(|ratio| **ratio > bar).count()
}

/// The fewest of `rounds` that have to be won for a worth of `threshold`; `None` where all of them
/// are too few.
pub fn wins_needed(rounds: usize, threshold: f64) -> Option<usize> {
    (0..=rounds).find(|wins| worth(*wins, rounds) >= threshold)
}

/// The bounds of the middle ratio: what is outside has been bet against with a worth of
/// `threshold`. `None` while there are too few rounds to exclude anything.
pub fn bounds(ratios: &[f64], threshold: f64) -> Option<(f64, f64)> {
    let needed = wins_needed(ratios.len(), threshold)?;
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    // `needed` ratios are above every bar below this one, and as many below every bar above that.
    Some((sorted[sorted.len() - needed], sorted[needed - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane::base::Prng;

    #[test]
    fn the_worth_is_that_of_the_integral() {
        let numeric = |wins: usize, rounds: usize| {
            let steps = 20_000;
            let width = 0.5 / f64::from(steps);
            let at = |step: i32| 0.5 + (f64::from(step) + 0.5) * width;
            let bet = |p: f64| {
                2.0 * (2.0 * p).powi(wins as i32) * (2.0 - 2.0 * p).powi((rounds - wins) as i32)
            };
            (0..steps).map(|step| bet(at(step)) * width).sum::<f64>()
        };
        for (wins, rounds) in [(0, 0), (1, 1), (0, 3), (7, 7), (15, 20), (31, 60)] {
            let (exact, near) = (worth(wins, rounds), numeric(wins, rounds));
            assert!((exact / near - 1.0).abs() < 1e-4, "{wins}/{rounds}: {exact} {near}");
        }
        assert!((worth(7, 7) - 255.0 / 8.0).abs() < 1e-9);
        assert!(worth(5000, 9000).is_finite());
    }

    #[test]
    fn the_next_worth_is_this_one_on_average_where_the_chance_is_a_half() {
        for (wins, rounds) in [(0, 0), (3, 5), (9, 12), (0, 7)] {
            let next = f64::midpoint(worth(wins + 1, rounds + 1), worth(wins, rounds + 1));
            assert!((next / worth(wins, rounds) - 1.0).abs() < 1e-9, "{wins}/{rounds}");
        }
    }

    #[test]
    fn a_fair_coin_seldom_ever_reaches_the_threshold() {
        let runs = 4000;
        let reached = |seed| {
            let mut coin = Prng::new(seed);
            let mut won = 0;
            (1..=200).any(|rounds| {
                won += usize::from(coin.one_in(2));
                worth(won, rounds) >= 1.0 / LEVEL
            })
        };
        let false_ones = (0..runs).filter(|seed| reached(*seed)).count();
        assert!(false_ones as f64 <= LEVEL * runs as f64, "{false_ones} of {runs}");
        assert!(false_ones > 0, "the test sees no error at all");
    }

    #[test]
    fn bounds_exclude_parity_exactly_where_the_bet_is_won() {
        let mut prng = Prng::new(3);
        let mut told = 0;
        for rounds in 1..60 {
            let ratio = |prng: &mut Prng| 0.95 + prng.below(2000) as f64 / 10_000.0;
            let ratios: Vec<f64> = (0..rounds).map(|_| ratio(&mut prng)).collect();
            let won = worth(wins(&ratios, 1.0), rounds) >= 20.0;
            let found = bounds(&ratios, 20.0);
            assert_eq!(found.is_some_and(|(low, _)| low > 1.0), won, "{ratios:?}");
            told += usize::from(won);
            if let Some((low, high)) = found {
                assert!(rounds >= 7 && low <= high);
            }
        }
        assert!(told > 20);
        assert_eq!(bounds(&[2.0; 6], 20.0), None);
        assert_eq!(bounds(&[2.0; 7], 20.0), Some((2.0, 2.0)));
        // Equal figures tell nothing in favour of the plan.
        assert_eq!(wins(&[1.0; 9], 1.0), 0);
    }
}
