//! What people read: the table, the verdict, the comment in the file and the page.

use super::goal::Goal;
use super::race::{End, Evidence, Race, Standing};
use crate::chart::{Bar, bars, escape};
use crate::html;
use crate::report::table;
use std::fmt::Write;

/// What the search was about.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// The scenario.
    pub scenario: String,
    /// Messages per second that all plans were offered; 0 where each took what it could.
    pub rate: f64,
    /// Processor, kernel and CPUs.
    pub host: String,
    /// When, as RFC 3339 has it.
    pub date: String,
    /// What was typed.
    pub command: String,
    /// Plans that were not tried and why.
    pub skipped: Vec<String>,
}

/// What was found, in a sentence.
pub fn verdict(race: &Race, names: &[String], goal: Goal) -> String {
    match race.end() {
        Some(End::Winner(plan)) => {
            let found = told(&race.evidence(*plan), goal);
            format!("better: {} ({found})", names[*plan])
        }
        Some(End::Baseline(why)) => format!("no verdict: the configuration as given fails: {why}"),
        Some(End::Stopped) => "no verdict: stopped before the end".into(),
        Some(End::NoneLeft) => "no significant difference: no plan was ahead of the \
                                configuration as given"
            .into(),
        Some(End::OutOfReach) => "no significant difference: not even the best plan could be \
                                  shown to be better within the budget"
            .into(),
        Some(End::Budget) | None => "no significant difference within the budget".into(),
    }
}

fn told(evidence: &Evidence, goal: Goal) -> String {
    let (low, high) = evidence.interval.unwrap_or((0.0, f64::INFINITY));
    format!(
        "{} × {:.3} [{low:.3}–{high:.3}], {} × {:.2}, better in {} of {} rounds",
        goal.merit(),
        evidence.ratio,
        goal.price(),
        evidence.price,
        evidence.wins,
        evidence.ratios.len()
    )
}

/// Why a key has its value, for people who read the file.
pub fn comment(evidence: &Evidence, goal: Goal, setting: &Setting) -> Vec<String> {
    let load = match setting.rate {
        rate if rate > 0.0 => format!("{} at {rate:.0} messages/s", setting.scenario),
        _ => setting.scenario.clone(),
    };
    vec![
        format!("Measured {}, {load}, against this file without it:", setting.date),
        told(evidence, goal),
        setting.host.clone(),
    ]
}

/// A row for each plan; the first is the configuration as given.
fn cells(race: &Race, names: &[String], goal: Goal) -> Vec<Vec<String>> {
    let heading = ["plan", "ratio", "interval", "rounds won", "price", "end"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (plan, name) in names.iter().enumerate().skip(1) {
        let known = race.evidence(plan);
        let interval = known.interval.map(|(low, high)| format!("{low:.3}–{high:.3}"));
        let end = match &race.standings()[plan] {
            Standing::Racing => "undecided".into(),
            Standing::Worse => "worse".into(),
            Standing::TooDear => format!("too dear: {}", goal.price()),
            Standing::Failed(why) => format!("failed: {why}"),
            Standing::Behind => "not ahead".into(),
            Standing::Winner => "better".into(),
        };
        rows.push(vec![
            name.clone(),
            format!("{:.3}", known.ratio),
            interval.unwrap_or_else(|| "too few rounds".into()),
            format!("{} of {}", known.wins, known.ratios.len()),
            format!("{:.2}", known.price),
            end,
        ]);
    }
    rows
}

/// The table for a terminal.
pub fn text(race: &Race, names: &[String], goal: Goal) -> String {
    table(&cells(race, names, goal))
}

/// The whole page.
pub fn page(race: &Race, names: &[String], goal: Goal, setting: &Setting) -> String {
    let mut body = String::new();
    let (all, of_final) = race.rounds();
    let _ = writeln!(body, "<pre class=command>{}</pre>", escape(&setting.command));
    let _ = writeln!(body, "<p>{}</p>", escape(&verdict(race, names, goal)));
    let _ = writeln!(
        body,
        "<p>{all} whole rounds, {of_final} of them in the final. In each, every plan that was \
         still in ran once, in an order that was drawn anew, against a fresh broker, and so did \
         the configuration as given. Ratio: {} of the plan over that of the configuration in the \
         same round; price: {} in the same way. A winner that is none is named with 5 % at most, \
         whatever the machine does.</p>",
        goal.merit(),
        goal.price()
    );
    let bar = |(colour, (plan, name)): (usize, (usize, &String))| {
        let known = race.evidence(plan);
        Bar { name: name.clone(), value: known.ratio, interval: known.interval, colour }
    };
    let plans = names.iter().enumerate().skip(1).enumerate();
    let all: Vec<Bar> = plans.map(bar).filter(|bar| bar.value > 0.0).collect();
    body += &bars(goal.merit(), &all, |ratio| format!("× {ratio:.3}"), Some(1.0));
    body += "<div class=wide><table>";
    for (at, row) in cells(race, names, goal).iter().enumerate() {
        html::row(&mut body, if at == 0 { "th" } else { "td" }, row);
    }
    body += "</table></div>\n<h2>Where and with what</h2>\n<table class=facts>";
    let rate = match setting.rate {
        rate if rate > 0.0 => format!("{rate:.0} messages/s for every plan"),
        _ => "as much as each plan took".into(),
    };
    for (name, value) in [
        ("scenario", &setting.scenario),
        ("load", &rate),
        ("host", &setting.host),
        ("date", &setting.date),
    ] {
        html::row(&mut body, "td", &[name.to_owned(), value.clone()]);
    }
    body += "</table>\n";
    if !setting.skipped.is_empty() {
        body += "<h2>Not tried</h2>\n<ul>";
        for line in &setting.skipped {
            let _ = writeln!(body, "<li>{}</li>", escape(line));
        }
        body += "</ul>\n";
    }
    html::frame(&format!("Search for a better plan: {}", escape(&setting.scenario)), &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::goal::Sample;
    use crate::search::race::Rules;

    /// A race of one plan that is `ratio` times as good in every round.
    fn raced(ratio: f64) -> Race {
        let rules = Rules { plans: 1, screening: 0, allowance: 1.5, seed: 1 };
        let mut race = Race::new(rules);
        let mut left = 200;
        while let Some(order) = race.next(left) {
            left -= order.len();
            let sample = |plan: usize| {
                let merit = if plan == 1 { ratio } else { 1.0 };
                (plan, Ok(Sample { merit, price: 1.0 }))
            };
            race.take(order.into_iter().map(sample).collect());
        }
        race
    }

    #[test]
    fn verdict_table_page_and_comment_say_the_same() {
        let names = ["as given".to_owned(), "runtime.spin_us = <9>".to_owned()];
        let setting = Setting {
            scenario: "S1".into(),
            rate: 1000.0,
            host: "a host".into(),
            skipped: vec!["<b>".into()],
            ..Setting::default()
        };
        let race = raced(1.25);
        let said = verdict(&race, &names, Goal::Efficiency);
        assert!(said.starts_with("better: runtime.spin_us = <9> ("), "{said}");
        assert!(said.contains("× 1.250 [1.250–1.250]") && said.contains("7 of 7"), "{said}");
        let shown = text(&race, &names, Goal::Efficiency);
        assert!(shown.contains("1.250–1.250") && shown.contains("better"), "{shown}");
        let page = page(&race, &names, Goal::Efficiency, &setting);
        assert!(page.contains("spin_us = &lt;9&gt;") && page.contains("&lt;b&gt;"), "{page}");
        assert!(page.contains("<svg") && page.ends_with("</html>\n"));
        let comment = comment(&race.evidence(1), Goal::Efficiency, &setting);
        assert!(comment[0].contains("S1 at 1000 messages/s") && comment[1].contains("× 1.250"));

        let race = raced(0.9);
        let said = verdict(&race, &names, Goal::Efficiency);
        assert!(said.starts_with("no significant difference"), "{said}");
        assert!(text(&race, &names, Goal::Efficiency).contains("worse"));
    }
}
