//! Points in time, as TOML has them.

use super::key::Key;
use super::read::{Given, Scan};
use super::setting::{Setting, Wrong, filed, wrong_type};
use toml_datetime::{Datetime, Offset};

/// A point in time with its distance from UTC, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment(Option<Datetime>);

impl Moment {
    /// Seconds since 1970 (UTC), if there is a point in time.
    pub fn unix_s(self) -> Option<u64> {
        self.0.and_then(unix_s)
    }
}

fn unix_s(moment: Datetime) -> Option<u64> {
    let (date, time) = (moment.date?, moment.time?);
    let offset_s = match moment.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    let in_day = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60;
    let in_day = in_day + i64::from(time.second.unwrap_or(0));
    u64::try_from(days(date.year, date.month, date.day) * 86_400 + in_day - offset_s).ok()
}

/// Days since 1970. Years begin in March here, so that a leap day is the last of one.
fn days(year: u16, month: u8, day: u8) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let month = (i64::from(month) + 9) % 12;
    let before = year * 365 + year / 4 - year / 100 + year / 400;
    before + (153 * month + 2) / 5 + i64::from(day) - 1 - 719_468
}

impl Setting for Moment {
    fn kind() -> String {
        "date and time".into()
    }

    fn read(given: &Given<'_>, _: &Key, scan: &mut Scan) -> Option<Self> {
        const EXAMPLE: &str = "2026-12-24T18:00:00Z, without quotes";
        let wrong = || wrong_type(given.value, "a date and time", EXAMPLE);
        let read = given.value.as_datetime().ok_or_else(wrong).and_then(|moment| {
            let unclear = || -> Wrong {
                let reason = format!("{moment} is no point in time after 1970");
                (reason, format!("write date, time and offset: {EXAMPLE}"))
            };
            unix_s(*moment).map(|_| Moment(Some(*moment))).ok_or_else(unclear)
        });
        filed(read, given, scan)
    }

    fn show(&self) -> String {
        self.0.map_or("none".into(), |moment| moment.to_string())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn points_in_time_count_from_1970() {
        let read = |text: &str| {
            parse(&format!("[[ban]]\nusers = [\"a\"]\nuntil = {text}\n"))
                .map(|config| config.ban[0].until.unix_s())
        };
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2000-03-01 00:00:00Z", 951_868_800),
            ("2026-12-24T18:00:00+01:00", 1_798_131_600),
            ("2100-03-01T00:00:00.5-02:30", 4_107_551_400),
        ] {
            assert_eq!(read(text), Ok(Some(seconds)), "{text}");
        }
        for text in ["2026-12-24", "18:00:00", "2026-12-24T18:00:00", "\"soon\"", "7"] {
            let faults = read(text).expect_err(text);
            assert!(faults[0].remedy.contains("2026-12-24T18:00:00Z"), "{faults:?}");
        }
        let bans = parse("[[ban]]\nusers = [\"a\"]\n").expect("valid").ban;
        assert_eq!(bans[0].until.unix_s(), None);
    }
}
