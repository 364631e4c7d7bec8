//! Who runs in the next round, who is out and why, and when the race ends.
//!
//! A race has two parts, each with rounds of its own. *Screening* runs every plan a few times; what
//! is clearly worse or too dear is out, and the best two that are ahead go on. The *final* runs
//! these and the baseline until one has won, none can win any more, or the budget ends.
//!
//! Why the error of the whole is 5 %: the winner is named by the rounds of the final alone, which
//! nobody had seen when the finalists were chosen, so the choice costs nothing; each of the k
//! finalists has to reach a worth of k / 5 % (see [`evidence`](super::evidence)), which holds for
//! all looks together. Dropping plans, refusing dear ones and ending early can only lower the
//! error, so these use weaker rules: every round of screening lost, bounds below parity in the
//! final, a middle price.
//!
//! Invariants worth naming:
//! * only whole rounds count: every plan that is in ran once, and so did the baseline;
//! * the order within a round is drawn anew from the seed;
//! * a round in which the baseline failed counts for nobody.

use super::evidence::{LEVEL, bounds, wins, worth};
use super::goal::Sample;
use crate::measure::{median, ratio_interval};
use corelane::base::Prng;

/// Plans in the final, at most.
const FINALISTS: usize = 2;
/// Rounds of screening, at least and at most.
const SCREENING: (usize, usize) = (3, 6);
/// Share of the budget that screening may take.
const SCREENING_SHARE: f64 = 0.4;
/// Rounds in which the baseline may fail.
const VOID_MAX: usize = 3;
/// Rounds of a part before a plan can be out for being worse or too dear.
const ROUNDS_TO_DROP: usize = 3;
/// Seed of the bootstrap.
const SEED: u64 = 1;

/// The bounds of a race.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Plans beside the baseline, at least one.
    pub plans: usize,
    /// Rounds of screening; none where all plans are finalists.
    pub screening: usize,
    /// How many times the baseline's price a plan may have.
    pub allowance: f64,
    /// Seed of the orders.
    pub seed: u64,
}

impl Rules {
    /// How a budget of `runs` is divided among at most `plans`: as many plans are taken as it can
    /// screen, the first ones first.
    pub fn within(runs: usize, plans: usize, allowance: f64, seed: u64) -> Rules {
        let (least, most) = SCREENING;
        let share = (runs as f64 * SCREENING_SHARE) as usize;
        let plans = plans.min((share / least).saturating_sub(1).max(FINALISTS));
        let screening = match plans <= FINALISTS {
            true => 0,
            false => (share / (plans + 1)).clamp(least, most),
        };
        Rules { plans, screening, allowance, seed }
    }

    /// The fewest runs that let each of `plans` be screened and one of the finalists win.
    pub fn least_runs(plans: usize) -> usize {
        let finalists = plans.min(FINALISTS);
        let needed = (1..).find(|rounds| worth(*rounds, *rounds) >= finalists as f64 / LEVEL);
        let of_final = needed.unwrap_or(0) * (finalists + 1);
        let screened = if plans > FINALISTS { SCREENING.0 * (plans + 1) } else { 0 };
        (of_final + screened).max((screened as f64 / SCREENING_SHARE).ceil() as usize)
    }
}

/// Where a plan stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It runs.
    Racing,
    /// It lost every round of screening, or its bounds were below parity.
    Worse,
    /// Its price was above what is allowed.
    TooDear,
    /// A run of it failed.
    Failed(String),
    /// Others were ahead after screening, or it was not ahead of the baseline.
    Behind,
    /// It has won.
    Winner,
}

/// Why the race is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// A plan is better.
    Winner(usize),
    /// No plan is left that could be.
    NoneLeft,
    /// Not even by winning every round that the budget leaves could a plan reach the threshold.
    OutOfReach,
    /// The budget has no room for another round.
    Budget,
    /// The baseline failed again and again.
    Baseline(String),
    /// The user asked for the end.
    Stopped,
}

/// What is known of a plan against the baseline, from the last part it was in.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Whether it is from the final.
    pub of_final: bool,
    /// The plan's merit over the baseline's, round by round.
    pub ratios: Vec<f64>,
    /// Their middle; 0 without rounds.
    pub ratio: f64,
    /// In the final: bounds that hold at every look; in screening: a bootstrap interval of 95 %.
    pub interval: Option<(f64, f64)>,
    /// Rounds won.
    pub wins: usize,
    /// What the bet on the plan is worth.
    pub worth: f64,
    /// What it has to be worth to win.
    pub threshold: f64,
    /// The middle of the plan's price over the baseline's, over both parts; 0 without rounds.
    pub price: f64,
}

/// One whole round: a sample for each plan that ran in it, the baseline first.
struct Round {
    of_final: bool,
    samples: Vec<Option<Sample>>,
}

/// A race; plan 0 is the baseline.
pub struct Race {
    rules: Rules,
    prng: Prng,
    standings: Vec<Standing>,
    rounds: Vec<Round>,
    of_final: bool,
    /// Plans that entered the final.
    finalists: usize,
    void: usize,
    end: Option<End>,
}

impl Race {
    /// A race at its start.
    ///
    /// # Panics
    /// Without plans.
    pub fn new(rules: Rules) -> Race {
        assert!(rules.plans > 0, "a race needs a plan beside the baseline");
        let of_final = rules.screening == 0;
        Race {
            rules,
            prng: Prng::new(rules.seed),
            standings: vec![Standing::Racing; rules.plans + 1],
            rounds: Vec::new(),
            of_final,
            finalists: if of_final { rules.plans } else { 0 },
            void: 0,
            end: None,
        }
    }

    /// The plans of the next round in the order in which they run, or `None` where the race is
    /// over. `runs_left` is how many more runs the budget has room for.
    pub fn next(&mut self, runs_left: usize) -> Option<Vec<usize>> {
        if self.end.is_none() {
            self.end = self.over(runs_left);
        }
        if self.end.is_some() {
            return None;
        }
        let mut order: Vec<usize> = std::iter::once(0).chain(self.racing()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, self.prng.below(at + 1));
        }
        Some(order)
    }

    /// Takes what a whole round found, in any order.
    ///
    /// # Panics
    /// When the baseline did not run.
    pub fn take(&mut self, results: Vec<(usize, Result<Sample, String>)>) {
        let mut samples = vec![None; self.standings.len()];
        let mut failed = Vec::new();
        for (plan, result) in results {
            match result {
                Ok(sample) => samples[plan] = Some(sample),
                Err(why) => failed.push((plan, why)),
            }
        }
        if let Some((_, why)) = failed.iter().find(|(plan, _)| *plan == 0) {
            self.void += 1;
            if self.void >= VOID_MAX {
                self.end = Some(End::Baseline(why.clone()));
            }
            return;
        }
        assert!(samples[0].is_some(), "the baseline runs in every round");
        for (plan, why) in failed {
            self.standings[plan] = Standing::Failed(why);
        }
        self.rounds.push(Round { of_final: self.of_final, samples });
        self.drop_losers();
        if self.of_final {
            self.name_winner();
        } else if self.rounds.len() >= self.rules.screening {
            self.begin_final();
        }
    }

    /// Ends the race from outside.
    pub fn stop(&mut self) {
        self.end.get_or_insert(End::Stopped);
    }

    /// Why it is over, once it is.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whether the rounds to come are those of the final.
    pub fn in_final(&self) -> bool {
        self.of_final
    }

    /// Where each plan stands; the first is the baseline.
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// Whole rounds so far, those of the final among them.
    pub fn rounds(&self) -> (usize, usize) {
        let of_final = self.rounds.iter().filter(|round| round.of_final).count();
        (self.rounds.len(), of_final)
    }

    /// What is known of `plan`.
    pub fn evidence(&self, plan: usize) -> Evidence {
        let raced = |round: &&Round| round.samples[plan].is_some();
        let of_final = self.rounds.iter().filter(raced).any(|round| round.of_final);
        self.evidence_of(plan, of_final)
    }

    fn evidence_of(&self, plan: usize, of_final: bool) -> Evidence {
        let pairs = self.pairs(plan, Some(of_final));
        let ratios = ratios(&pairs);
        let wins = wins(&ratios, 1.0);
        let threshold = self.threshold();
        let interval = match of_final {
            true => bounds(&ratios, threshold),
            false => interval(&pairs),
        };
        Evidence {
            of_final,
            ratio: median(ratios.iter().copied()),
            interval,
            wins,
            worth: worth(wins, ratios.len()),
            threshold,
            price: self.price(plan),
            ratios,
        }
    }

    /// What the bet on a plan has to be worth to win.
    fn threshold(&self) -> f64 {
        self.finalists.max(1) as f64 / LEVEL
    }

    /// Rounds of the final that a plan has won, of how many.
    fn tally(&self, plan: usize) -> (usize, usize) {
        let ratios = ratios(&self.pairs(plan, Some(true)));
        (wins(&ratios, 1.0), ratios.len())
    }

    /// The plan's samples beside the baseline's, of one part or of both.
    fn pairs(&self, plan: usize, of_final: Option<bool>) -> Vec<(Sample, Sample)> {
        let part = self.rounds.iter().filter(|round| of_final.is_none_or(|f| round.of_final == f));
        part.filter_map(|round| Some((round.samples[plan]?, round.samples[0]?))).collect()
    }

    fn price(&self, plan: usize) -> f64 {
        let pairs = self.pairs(plan, None);
        median(pairs.iter().map(|(own, base)| own.price / base.price))
    }

    /// The plans that are in, without the baseline.
    fn racing(&self) -> Vec<usize> {
        (1..self.standings.len()).filter(|at| self.standings[*at] == Standing::Racing).collect()
    }

    fn over(&self, runs_left: usize) -> Option<End> {
        let racing = self.racing();
        if racing.is_empty() {
            return Some(End::NoneLeft);
        }
        let rounds_left = runs_left / (racing.len() + 1);
        if rounds_left == 0 {
            return Some(End::Budget);
        }
        // A plan alone would have more rounds than beside others.
        let most = runs_left / 2;
        let reachable = |plan: &usize| {
            let (won, rounds) = self.tally(*plan);
            worth(won + most, rounds + most) >= self.threshold()
        };
        let hopeless = self.of_final && !racing.iter().any(reachable);
        hopeless.then_some(End::OutOfReach)
    }

    fn drop_losers(&mut self) {
        for plan in self.racing() {
            let pairs = self.pairs(plan, Some(self.of_final));
            if pairs.len() < ROUNDS_TO_DROP {
                continue;
            }
            if self.is_worse(&ratios(&pairs)) {
                self.standings[plan] = Standing::Worse;
            } else if self.price(plan) > self.rules.allowance {
                self.standings[plan] = Standing::TooDear;
            }
        }
    }

    /// Whether a plan with these ratios is out: in screening it has lost every round, in the final
    /// its bounds are below parity.
    fn is_worse(&self, ratios: &[f64]) -> bool {
        match self.of_final {
            true => {
                let lost = ratios.iter().filter(|ratio| **ratio < 1.0).count();
                worth(lost, ratios.len()) >= 1.0 / LEVEL
            }
            false => ratios.iter().all(|ratio| *ratio < 1.0),
        }
    }

    /// Lets the best plans go on, if they were ahead.
    fn begin_final(&mut self) {
        let middle = |plan| median(ratios(&self.pairs(plan, Some(false))));
        let ahead = |plan: usize| (middle(plan), plan);
        let mut ranked: Vec<(f64, usize)> = self.racing().into_iter().map(ahead).collect();
        ranked.sort_by(|one, other| other.0.total_cmp(&one.0));
        for (place, (ratio, plan)) in ranked.into_iter().enumerate() {
            if place >= FINALISTS || ratio <= 1.0 {
                self.standings[plan] = Standing::Behind;
            }
        }
        self.of_final = true;
        self.finalists = self.racing().len();
    }

    fn name_winner(&mut self) {
        let won = |plan: &usize| {
            let (won, rounds) = self.tally(*plan);
            let crossed = worth(won, rounds) >= self.threshold() && rounds >= ROUNDS_TO_DROP;
            crossed.then(|| (*plan, median(ratios(&self.pairs(*plan, Some(true))))))
        };
        let crossed = self.racing();
        let crossed = crossed.iter().filter_map(won);
        if let Some((plan, _)) = crossed.max_by(|one, other| one.1.total_cmp(&other.1)) {
            self.standings[plan] = Standing::Winner;
            self.end = Some(End::Winner(plan));
        }
    }
}

/// A plan's merits over the baseline's.
fn ratios(pairs: &[(Sample, Sample)]) -> Vec<f64> {
    pairs.iter().map(|(own, base)| own.merit / base.merit).collect()
}

/// The 95 % bootstrap interval of the ratio of merits.
fn interval(pairs: &[(Sample, Sample)]) -> Option<(f64, f64)> {
    let merits: Vec<(f64, f64)> = pairs.iter().map(|(own, base)| (own.merit, base.merit)).collect();
    ratio_interval(&merits, SEED)
}

#[cfg(test)]
#[path = "race/tests.rs"]
mod tests;
