//! When which group vanishes, and when it comes back.

use crate::scenario::Scenario;

/// The absences of a run, known once the window is.
#[derive(Default)]
pub struct Absences {
    known: bool,
    /// Begin, group and end, the last first.
    planned: Vec<(u64, usize, u64)>,
}

impl Absences {
    /// Lays them out when the window becomes known; later calls do nothing.
    pub fn open(&mut self, scenario: &Scenario, begin_ns: u64, end_ns: u64) {
        if self.known || begin_ns == u64::MAX {
            return;
        }
        self.known = true;
        let ns = |seconds: f64| (seconds * 1e9) as u64;
        for (at, group) in scenario.groups.iter().enumerate() {
            if group.offline_s > 0.0 {
                let from = begin_ns + ns(group.offline_at_s);
                self.planned.push((from, at, from + ns(group.offline_s)));
            }
            if group.storm_every_s > 0.0 {
                let every = ns(group.storm_every_s).max(1);
                let mut from = begin_ns + every;
                while from < end_ns && self.planned.len() < 1_000_000 {
                    self.planned.push((from, at, from));
                    from += every;
                }
            }
        }
        self.planned.sort_by(|left, right| right.cmp(left));
    }

    /// The group whose time has come, and when it comes back.
    pub fn next(&mut self, now_ns: u64) -> Option<(usize, u64)> {
        let (from, group, back_ns) = *self.planned.last()?;
        if from > now_ns {
            return None;
        }
        self.planned.pop();
        Some((group, back_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Group;

    #[test]
    fn storms_repeat_inside_the_window_only() {
        let storm = Group { storm_every_s: 1.0, ..Group::default() };
        let away = Group { offline_at_s: 0.5, offline_s: 2.0, ..Group::default() };
        let scenario = Scenario { groups: vec![storm, away], ..Scenario::default() };
        let mut absences = Absences::default();
        absences.open(&scenario, u64::MAX, u64::MAX);
        assert_eq!(absences.next(u64::MAX), None);
        absences.open(&scenario, 1_000_000_000, 3_500_000_000);
        assert_eq!(absences.next(1_499_999_999), None);
        assert_eq!(absences.next(1_500_000_000), Some((1, 3_500_000_000)));
        assert_eq!(absences.next(4_000_000_000), Some((0, 2_000_000_000)));
        assert_eq!(absences.next(4_000_000_000), Some((0, 3_000_000_000)));
        assert_eq!(absences.next(4_000_000_000), None);
    }
}
