//! Durations as configuration files spell them: `1h30m`, `15s`, `250ms` (Go's `time.ParseDuration`).

use core::time::Duration;

/// Reads a duration; a negative one, and one of more than 292 years, is none.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut sum = Duration::ZERO;
    loop {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, tail) = rest.split_at_checked(number)?;
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit)?;
        let nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        sum = sum.checked_add(part(digits, nanos)?)?;
        if tail.is_empty() {
            return (sum.as_nanos() <= i64::MAX as u128).then_some(sum);
        }
        rest = tail;
    }
}

/// A number, perhaps with decimals, of units of so many nanoseconds.
fn part(digits: &str, unit: u128) -> Option<Duration> {
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && decimals.is_empty() || decimals.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = u128::from(whole) * unit;
    let mut scale = unit;
    for digit in decimals.bytes() {
        scale /= 10;
        nanos += u128::from(digit - b'0') * scale;
    }
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_configuration_files_hold() {
        let read = |text| parse(text).map(|time| time.as_millis());
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("15m0s", 900_000),
            ("1h30m", 5_400_000),
            ("+250ms", 250),
            ("1.5s", 1_500),
            (".5m", 30_000),
            ("1000000us", 1_000),
        ] {
            assert_eq!(read(text), Some(millis), "{text}");
        }
        for text in
            ["", "s", "1", "-1s", "1d", "1.2.3s", "99999999999999h", "1s ", ".s", "18446744073709551616ns"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
