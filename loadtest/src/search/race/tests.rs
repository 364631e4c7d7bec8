//! The procedure as a whole on made-up machines: it seldom names a plan that is no better, and
//! mostly finds one that is.

use super::*;

/// A machine: what plans are worth, and what it does to the figures.
#[derive(Clone, Copy)]
struct Machine {
    plans: usize,
    /// How many times as good as the baseline plan 1 is; the others are as good as the baseline.
    best: f64,
    /// Spread of the noise of a run, as a share.
    noise: f64,
    /// How much slower each run is than the one before, within a round.
    drift: f64,
    /// One run in so many loses half of its merit to other work; 0 is none.
    hiccup: usize,
    /// The p99 of plan 1 over the others'.
    dear: f64,
}

const QUIET: Machine =
    Machine { plans: 11, best: 1.0, noise: 0.03, drift: 0.0, hiccup: 0, dear: 1.0 };

impl Machine {
    /// Runs a race with a budget of `runs`.
    fn race(self, runs: usize, seed: u64) -> (Race, End) {
        let mut noise = Prng::new(seed ^ 0xfeed);
        let mut race = Race::new(Rules::within(runs, self.plans, 1.5, seed));
        let mut left = runs;
        while let Some(order) = race.next(left) {
            left -= order.len();
            // Whole rounds are good or bad as well.
            let mood = 0.7 + 0.6 * unit(&mut noise);
            let run = |(place, plan): (usize, usize)| {
                (plan, Ok(self.sample(plan, mood * (1.0 - self.drift * place as f64), &mut noise)))
            };
            let results = order.into_iter().enumerate().map(run).collect();
            race.take(results);
        }
        let end = race.end().expect("it is over").clone();
        (race, end)
    }

    fn sample(self, plan: usize, mood: f64, noise: &mut Prng) -> Sample {
        let is_best = plan == 1;
        let worth = if is_best { self.best } else { 1.0 };
        // The sum of four is bell-shaped enough; its spread is 0.58 of the half width.
        let bell: f64 = (0..4).map(|_| unit(noise) - 0.5).sum();
        let hit = self.hiccup > 0 && noise.one_in(self.hiccup);
        let lost = if hit { 0.5 } else { 1.0 };
        let price = if is_best { self.dear } else { 1.0 } * (1.0 + 0.5 * unit(noise));
        Sample { merit: worth * mood * lost * (1.0 + self.noise / 0.58 * bell), price }
    }

    /// How often in `seeds` races a plan was named the winner, and how often plan 1 was.
    fn winners(self, runs: usize, seeds: u64) -> (usize, usize) {
        let named = (0..seeds).filter_map(|seed| match self.race(runs, seed).1 {
            End::Winner(plan) => Some(plan),
            _ => None,
        });
        let named: Vec<usize> = named.collect();
        (named.len(), named.iter().filter(|plan| **plan == 1).count())
    }
}

fn unit(prng: &mut Prng) -> f64 {
    prng.below(1 << 20) as f64 / f64::from(1 << 20)
}

const SEEDS: u64 = 400;

#[test]
fn of_equal_plans_none_wins_with_more_than_five_per_cent() {
    let noisy = Machine { noise: 0.2, hiccup: 5, ..QUIET };
    let drifting = Machine { drift: 0.03, ..QUIET };
    let few = Machine { plans: 2, ..noisy };
    let mut all = 0;
    for (name, machine) in [("quiet", QUIET), ("noisy", noisy), ("drifts", drifting), ("few", few)]
    {
        for runs in [60, 200, 600] {
            let (named, _) = machine.winners(runs, SEEDS);
            assert!(named as f64 <= LEVEL * SEEDS as f64, "{name}, {runs}: {named} of {SEEDS}");
            all += named;
        }
    }
    assert!(all > 0, "a procedure that never names anybody proves nothing");
}

#[test]
fn a_plan_that_is_a_tenth_better_is_mostly_found() {
    let better = Machine { best: 1.1, noise: 0.05, ..QUIET };
    let (named, right) = better.winners(200, SEEDS / 2);
    assert!(right * 100 >= 85 * SEEDS as usize / 2, "{right} of {}", SEEDS / 2);
    assert!((named - right) * 100 <= 5 * SEEDS as usize / 2, "{named} named, {right} right");
    // More noise asks for more budget.
    let noisy = Machine { noise: 0.1, hiccup: 20, ..better };
    let (_, right) = noisy.winners(600, SEEDS / 2);
    assert!(right * 100 >= 60 * SEEDS as usize / 2, "{right} of {}", SEEDS / 2);
}

#[test]
fn a_worse_plan_never_wins_and_is_dropped_early() {
    let worse = Machine { best: 0.8, ..QUIET };
    for seed in 0..200 {
        let (race, end) = worse.race(200, seed);
        assert_ne!(end, End::Winner(1));
        assert_ne!(race.standings()[1], Standing::Racing, "{end:?}");
        assert!(race.evidence(1).ratios.len() <= SCREENING.1, "seed {seed}");
    }
}

#[test]
fn a_dear_plan_is_out_however_good_it_is() {
    let dear = Machine { best: 3.0, dear: 2.5, ..QUIET };
    for seed in 0..100 {
        let (race, end) = dear.race(200, seed);
        assert_eq!(race.standings()[1], Standing::TooDear, "seed {seed}: {end:?}");
    }
}

#[test]
fn a_winner_ends_the_race_before_the_budget_does() {
    let clear = Machine { best: 1.5, ..QUIET };
    let (race, end) = clear.race(10_000, 1);
    assert_eq!(end, End::Winner(1));
    let known = race.evidence(1);
    assert!(known.of_final && known.worth >= known.threshold);
    assert!(known.interval.is_some_and(|(low, high)| low > 1.0 && high < 2.0), "{known:?}");
    assert!((7..20).contains(&known.ratios.len()), "{known:?}");
}

fn equal(order: &[usize]) -> Vec<(usize, Result<Sample, String>)> {
    order.iter().map(|plan| (*plan, Ok(Sample { merit: 1.0, price: 1.0 }))).collect()
}

#[test]
fn orders_change_and_hold_each_plan_once() {
    let mut race = Race::new(Rules { plans: 3, screening: 6, allowance: 1.5, seed: 1 });
    let mut orders = Vec::new();
    for _ in 0..5 {
        let order = race.next(100).expect("it goes on");
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3]);
        race.take(equal(&order));
        orders.push(order);
    }
    orders.dedup();
    assert!(orders.len() > 2, "{orders:?}");
}

#[test]
fn plans_that_are_not_ahead_end_the_race_after_screening() {
    let mut race = Race::new(Rules { plans: 3, screening: 3, allowance: 1.5, seed: 1 });
    while let Some(order) = race.next(1000) {
        race.take(equal(&order));
    }
    assert_eq!(race.end(), Some(&End::NoneLeft));
    assert_eq!(race.rounds(), (3, 0));
    assert!(race.standings()[1..].iter().all(|one| *one == Standing::Behind));
}

#[test]
fn a_final_that_cannot_be_won_any_more_is_not_run() {
    let mut race = Race::new(Rules { plans: 1, screening: 0, allowance: 1.5, seed: 1 });
    // Six rounds cannot make a worth of 20, seven can.
    assert!(race.next(13).is_none());
    assert_eq!(race.end(), Some(&End::OutOfReach));
    let mut race = Race::new(Rules { plans: 1, screening: 0, allowance: 1.5, seed: 1 });
    assert!(race.next(14).is_some());
    let mut race = Race::new(Rules { plans: 3, screening: 3, allowance: 1.5, seed: 1 });
    assert!(race.next(3).is_none());
    assert_eq!(race.end(), Some(&End::Budget));
}

#[test]
fn failures_of_a_plan_put_it_out_and_those_of_the_baseline_void_the_round() {
    let mut race = Race::new(Rules { plans: 2, screening: 0, allowance: 1.5, seed: 1 });
    let fine = Sample { merit: 1.0, price: 1.0 };
    race.take(vec![(0, Ok(fine)), (1, Err("lost".into())), (2, Ok(fine))]);
    assert_eq!(race.standings()[1], Standing::Failed("lost".into()));
    assert_eq!(race.next(100).expect("one is left").len(), 2);
    for _ in 0..3 {
        race.take(vec![(0, Err("gone".into())), (2, Ok(fine))]);
    }
    assert_eq!((race.rounds(), race.next(100)), ((1, 1), None));
    assert_eq!(race.end(), Some(&End::Baseline("gone".into())));
}

#[test]
fn a_budget_is_divided_so_that_the_final_has_its_share() {
    let many = Rules::within(200, 12, 1.5, 1);
    assert_eq!((many.plans, many.screening), (12, 6));
    let tight = Rules::within(100, 12, 1.5, 1);
    assert_eq!((tight.plans, tight.screening), (12, 3));
    let short = Rules::within(50, 12, 1.5, 1);
    assert_eq!((short.plans, short.screening), (5, 3));
    let none = Rules::within(4, 12, 1.5, 1);
    assert_eq!((none.plans, none.screening), (2, 0));
    for plans in 1..20 {
        let runs = Rules::least_runs(plans);
        let rules = Rules::within(runs, plans, 1.5, 1);
        assert_eq!(rules.plans, plans);
        let left = runs - rules.screening * (plans + 1);
        assert!(left / 3.min(plans + 1) >= 7, "{plans}: {left} of {runs} runs are left");
    }
}
