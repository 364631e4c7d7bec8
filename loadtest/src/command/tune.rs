//! `tune`: plans for the user's configuration against it, round by round, and what is better.
//!
//! Invariants worth naming:
//! * the user's file is read once and never written; new files are made only where none is;
//! * each run has a fresh broker on the same CPUs; a round that was cut short counts for nobody.

use super::{Done, Result, compare};
use crate::args::{TuneArgs, checked};
use crate::broker::Descriptor;
use crate::outcome::Outcome;
use crate::report::{thousands, verdict};
use crate::scenario::{Scenario, find};
use crate::search::candidate::{self, Plan};
use crate::search::edit;
use crate::search::page::{self, Setting};
use crate::search::race::{End, Race, Rules};
use corelane::config;
use corelane::runtime::{Requests, Stopping};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Share of what the configuration as given reaches at which plans are compared.
const SHARE: f64 = 0.6;

/// Searches and prints.
///
/// # Errors
/// The request is wrong, the configuration as given does not run, or a file can't be written.
pub fn tune(args: &TuneArgs, requests: &Requests) -> Result<Done> {
    let files = Files::free(&args.out)?;
    let text = match &args.config {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?
        }
        None => String::new(),
    };
    let config = config::parse(&text).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        format!("the configuration has faults:\n{}", lines.join("\n"))
    })?;
    let (plans, mut skipped) = candidate::plans(&text, &config, args.broker_cpus.len());
    let mut search =
        Search { args, requests, text, scenario: scenario(args)?, runs: 0, spent: Duration::ZERO };
    let pilot = search.pilot()?;
    let (rate, host) = (search.fix_load(&pilot), host(args, &pilot));
    let allowance = args.allowance.unwrap_or_else(|| args.goal.allowance());
    let budget = search.runs_within(args.budget.saturating_sub(search.spent));
    let rules = Rules::within(budget, plans.len(), allowance, args.seed);
    let needed = Rules::least_runs(rules.plans);
    if budget < needed {
        let each = search.each().as_secs_f64();
        return Err(format!(
            "--budget has room for {budget} runs of {each:.1} s, and it takes {needed} to show \
             that anything is better; allow {:.0}s at least, or shorten runs with --seconds",
            (each * (needed + 2) as f64 * 1.2).ceil()
        )
        .into());
    }
    let (tried, left_out) = plans.split_at(rules.plans);
    skipped.extend(left_out.iter().map(|plan| format!("{}: no budget left for it", plan.name())));
    let names = names(tried);
    eprintln!(
        "{} plans, room for about {budget} runs of {:.1} s",
        tried.len(),
        search.each().as_secs_f64()
    );
    let race = search.race(Race::new(rules), tried, &names);
    let scenario = search.scenario.name.clone();
    let (date, command) = (corelane::cli::timestamp(SystemTime::now()), std::env::args());
    let command = command.collect::<Vec<_>>().join(" ");
    let setting = Setting { scenario, rate, host, date, command, skipped };
    print!("{}", page::text(&race, &names, args.goal));
    println!("{}", page::verdict(&race, &names, args.goal));
    files.write_page(&page::page(&race, &names, args.goal, &setting))?;
    match race.end() {
        Some(End::Winner(plan)) => {
            let comment = page::comment(&race.evidence(*plan), args.goal, &setting);
            let Plan { path, value, .. } = &tried[*plan - 1];
            files.write_plan(&edit::with(&search.text, path, value, &comment)?)?;
            Ok(Done::Passed)
        }
        Some(End::Baseline(_)) => Ok(Done::Failed),
        Some(End::Stopped) => Ok(Done::NoVerdict),
        _ => Ok(Done::Passed),
    }
}

fn names(plans: &[Plan]) -> Vec<String> {
    std::iter::once("as given".to_owned()).chain(plans.iter().map(Plan::name)).collect()
}

/// The load, as short as its runs are to be.
fn scenario(args: &TuneArgs) -> Result<Scenario> {
    let given = find(&args.scenario)?;
    if given.publishers().next().is_none() {
        return Err(format!("{}: nothing is published, so no plan is better", given.name).into());
    }
    let warmup_s = given.warmup_s.min(args.seconds / 2.0);
    let (seconds, cpus) = (args.seconds, args.cpus.clone());
    let (search, steps) = (None, Vec::new());
    if args.cpus.iter().any(|cpu| args.broker_cpus.contains(cpu)) {
        return Err("broker and generator share a CPU; choose others with --cpus".into());
    }
    Ok(checked(Scenario { seconds, warmup_s, cpus, search, steps, ..given })?)
}

fn host(args: &TuneArgs, outcome: &Outcome) -> String {
    let (processor, kernel) = (&outcome.place.processor, &outcome.versions.kernel);
    let broker = tuning::cpulist::show(&args.broker_cpus);
    let load = tuning::cpulist::show(&args.cpus);
    format!("{processor}, Linux {kernel}; broker on CPU {broker}, generator on {load}")
}

/// A search that goes on.
struct Search<'a> {
    args: &'a TuneArgs,
    requests: &'a Requests,
    text: String,
    scenario: Scenario,
    runs: u32,
    spent: Duration,
}

impl Search<'_> {
    fn once(
        &mut self,
        name: &str,
        text: &str,
        label: &str,
    ) -> std::result::Result<Outcome, String> {
        let args = self.args;
        let text = text.to_owned();
        let descriptor = Descriptor::tuned(name.to_owned(), &args.corelane, text);
        let begin = Instant::now();
        let run =
            compare::once(&descriptor, &args.broker_cpus, &self.scenario, self.requests, label);
        self.runs += 1;
        self.spent += begin.elapsed();
        run
    }

    /// One run of the configuration as given, which shows that it runs and how long that takes.
    fn pilot(&mut self) -> Result<Outcome> {
        let text = self.text.clone();
        let outcome = self.once("as given", &text, "pilot")?;
        match outcome.passed() || outcome.scenario.loss_allowed {
            true => Ok(outcome),
            false => Err(format!("the configuration as given fails: {}", verdict(&outcome)).into()),
        }
    }

    /// Gives every plan the same load where the goal asks for that and the scenario leaves it open;
    /// its messages per second, 0 where each plan takes what it can.
    fn fix_load(&mut self, pilot: &Outcome) -> f64 {
        let offered = self.scenario.offered();
        if offered > 0.0 || !self.args.goal.fixes_load() {
            return offered;
        }
        let rate = SHARE * pilot.totals.sent as f64 / pilot.window.seconds().max(1e-9);
        eprintln!("every plan is offered {} messages/s", thousands(rate));
        self.scenario = self.scenario.at_rate(rate);
        rate
    }

    fn each(&self) -> Duration {
        self.spent / self.runs.max(1)
    }

    fn runs_within(&self, time: Duration) -> usize {
        (time.as_secs_f64() / self.each().as_secs_f64().max(1e-3)) as usize
    }

    /// All rounds.
    fn race(&mut self, mut race: Race, plans: &[Plan], names: &[String]) -> Race {
        let text = self.text.clone();
        loop {
            let left = self.runs_within(self.args.budget.saturating_sub(self.spent));
            let Some(order) = race.next(left) else { return race };
            let (rounds, _) = race.rounds();
            let part = if race.in_final() { "final" } else { "screening" };
            let mut results = Vec::new();
            for plan in order {
                let text = plan.checked_sub(1).map_or(&*text, |at| &*plans[at].text);
                let label = format!("{part}, round {}: {}", rounds + 1, names[plan]);
                let run = self.once(&names[plan], text, &label);
                if self.requests.stopping() != Stopping::No {
                    race.stop();
                    return race;
                }
                let sample = run.and_then(|outcome| self.args.goal.sample(&outcome));
                match &sample {
                    Ok(sample) => eprintln!("{label} | {}", self.args.goal.told(*sample)),
                    Err(why) => eprintln!("{label} | FAILED {why}"),
                }
                results.push((plan, sample));
            }
            race.take(results);
        }
    }
}

/// The files that are written, neither of which was there before.
struct Files {
    plan: PathBuf,
    page: PathBuf,
}

impl Files {
    /// Refuses at once what would be refused after the search.
    fn free(directory: &Path) -> Result<Files> {
        let plan = directory.join("corelane-tuned.toml");
        let page = directory.join("corelane-tune.html");
        if !directory.is_dir() {
            return Err(format!("{}: no such directory", directory.display()).into());
        }
        for file in [&plan, &page] {
            if file.exists() {
                let file = file.display();
                return Err(format!("{file} is there already; choose --out elsewhere").into());
            }
        }
        Ok(Files { plan, page })
    }

    fn write_plan(&self, text: &str) -> Result<()> {
        write(&self.plan, text)
    }

    fn write_page(&self, text: &str) -> Result<()> {
        write(&self.page, text)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let file: std::io::Result<File> = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}
