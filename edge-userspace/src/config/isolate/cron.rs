//! When a zone's worker runs by itself: cron expressions, in UTC, as crontab(5) has them. `check`
//! reads them; the room `isolate` asks once a minute which of them are due.

/// A schedule: which minutes, hours, days of the month, months and days of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// Bit n: minute, hour, day, month or day of the week n; Sunday is 0.
    fields: [u64; 5],
    /// A day has to fit one of the two, if both are restricted.
    either: bool,
}

/// A minute, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minute {
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 1 to 31.
    pub day: u8,
    /// 1 to 12.
    pub month: u8,
    /// 0, Sunday, to 6.
    pub weekday: u8,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Of each field: its least and greatest number, its names, and what the first of them is.
const FIELDS: [(u8, u8, &[&str], u8); 5] = [
    (0, 59, &[], 0),
    (0, 23, &[], 0),
    (1, 31, &[], 0),
    (1, 12, &MONTHS, 1),
    (0, 7, &DAYS, 0),
];

impl Cron {
    /// Reads five fields: numbers, names of months and days, `*`, lists, ranges and steps.
    ///
    /// # Errors
    /// In words: what of it is not of the grammar.
    pub fn read(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        if parts.len() != FIELDS.len() {
            return Err(format!(
                "\"{text}\" has {} fields, not five: minute, hour, day of the month, month, day of the week",
                parts.len()
            ));
        }
        let mut fields = [0; 5];
        for ((part, of), to) in parts.iter().zip(FIELDS).zip(&mut fields) {
            *to = field(part, of)?;
        }
        let [_, _, _, _, week] = &mut fields;
        // Sunday is 7 as well.
        *week = (*week | *week >> 7) & 0x7F;
        let restricted = |n: usize| parts.get(n).is_some_and(|part| !part.starts_with('*'));
        Ok(Self {
            text: parts.join(" "),
            fields,
            either: restricted(2) && restricted(4),
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is due in this minute.
    pub fn is_due(&self, at: Minute) -> bool {
        let [minutes, hours, days, months, week] = self.fields;
        let has = |field: u64, n: u8| field.checked_shr(u32::from(n)).is_some_and(|rest| rest & 1 == 1);
        let (day, weekday) = (has(days, at.day), has(week, at.weekday));
        let fits = if self.either { day || weekday } else { day && weekday };
        has(minutes, at.minute) && has(hours, at.hour) && has(months, at.month) && fits
    }
}

fn field(text: &str, (least, most, names, first): (u8, u8, &[&str], u8)) -> Result<u64, String> {
    let number = |word: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(word));
        let number = match named {
            Some(at) => u8::try_from(at).ok().and_then(|at| at.checked_add(first)),
            None => word.parse().ok().filter(|_| word.bytes().all(|b| b.is_ascii_digit())),
        };
        number
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| format!("\"{word}\" is not a number from {least} to {most}"))
    };
    let mut bits = 0;
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<u8>().ok().filter(|step| *step > 0);
                (range, step.ok_or_else(|| format!("\"{item}\" has no step above 0"))?)
            }
            None => (item, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            // From there on, with a step; else that alone.
            None if item.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if from > to {
            return Err(format!("\"{range}\" ends before it begins"));
        }
        for n in (from..=to).step_by(usize::from(step)) {
            bits |= 1_u64 << n;
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(text: &str, minute: u8, hour: u8, day: u8, month: u8, weekday: u8) -> bool {
        Cron::read(text).unwrap().is_due(Minute {
            minute,
            hour,
            day,
            month,
            weekday,
        })
    }

    /// A nightly job would run at noon, each minute, or never.
    #[test]
    fn schedules_are_due_when_they_say() {
        assert!(due("*/15 * * * *", 45, 3, 9, 2, 1) && !due("*/15 * * * *", 46, 3, 9, 2, 1));
        assert!(due("30 2 * * *", 30, 2, 31, 12, 0) && !due("30 2 * * *", 30, 14, 31, 12, 0));
        assert!(due("0 9-17/4 * * MON-FRI", 0, 13, 1, 1, 5) && !due("0 9-17/4 * * mon-fri", 0, 13, 1, 1, 6));
        assert!(due("0 0 1 jan,jul *", 0, 0, 1, 7, 3) && !due("0 0 1 jan,jul *", 0, 0, 1, 8, 3));
        assert!(due("0 0 * * 7", 0, 0, 5, 5, 0) && due("0 0 * * sun", 0, 0, 5, 5, 0));
        // Both days are restricted: one is enough (crontab(5)).
        assert!(
            due("0 0 13 * 5", 0, 0, 13, 4, 2) && due("0 0 13 * 5", 0, 0, 1, 4, 5) && !due("0 0 13 * 5", 0, 0, 1, 4, 4)
        );
        assert!(due("5/20 * * * *", 25, 0, 1, 1, 1) && !due("5/20 * * * *", 20, 0, 1, 1, 1));
    }

    /// A schedule with a slip would be taken for another one.
    #[test]
    fn what_is_no_schedule_is_refused() {
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "+5 * * * *",
            "1, * * * *",
            "@daily",
        ] {
            assert!(Cron::read(bad).is_err(), "{bad}");
        }
        assert_eq!(Cron::read(" 0  0 * * * ").unwrap().text(), "0 0 * * *");
    }
}
