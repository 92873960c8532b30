//! Amounts of CPU, as Kubernetes writes them: `2`, `1500m`, `1.5`, `2k`, `1e3`.

/// A CPU amount in billionths of a core, rounded up to the next one as Kubernetes does; `None` if the text is
/// no quantity. Amounts too large to hold count as the largest.
pub(super) fn nano_cpus(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let number_length = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, suffix) = text.split_at_checked(number_length)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (decimal_exponent, binary_exponent) = scale(suffix)?;
    let mut digits: u128 = 0;
    let mut lost = false;
    // Digits past the thirtieth cannot matter but for rounding up.
    let mut exponent = decimal_exponent + 9;
    for (index, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let is_fraction = index >= whole.len();
        if digits < 10u128.pow(30) {
            digits = digits * 10 + u128::from(digit - b'0');
            exponent -= i32::from(is_fraction);
        } else {
            lost |= digit != b'0';
            exponent += i32::from(!is_fraction);
        }
    }
    digits = digits.saturating_mul(1u128.checked_shl(binary_exponent)?);
    for _ in 0..exponent.clamp(0, 40) {
        digits = digits.saturating_mul(10);
    }
    for _ in exponent.clamp(-40, 0)..0 {
        lost |= !digits.is_multiple_of(10);
        digits /= 10;
    }
    Some(digits.saturating_add(u128::from(lost)))
}

/// What a suffix multiplies by: a power of ten and a power of two.
fn scale(suffix: &str) -> Option<(i32, u32)> {
    Some(match suffix {
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "" => (0, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        exponent => (exponent.strip_prefix(['e', 'E'])?.parse::<i8>().ok()?.into(), 0),
    })
}

#[cfg(test)]
mod tests {
    use super::nano_cpus;

    #[test]
    fn quantities_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("2", Some(2_000_000_000)),
            ("1500m", Some(1_500_000_000)),
            ("1.5", Some(1_500_000_000)),
            (".5", Some(500_000_000)),
            ("+3.", Some(3_000_000_000)),
            ("1e3", Some(1_000_000_000_000)),
            ("1E-3", Some(1_000_000)),
            ("2k", Some(2_000_000_000_000)),
            ("1Ki", Some(1_024_000_000_000)),
            ("1n", Some(1)),
            ("0.1n", Some(1)),
            ("0", Some(0)),
            ("0.0000000000000000000000000000000000000000001", Some(1)),
            ("", None),
            ("m", None),
            (".", None),
            ("1.2.3", None),
            ("-1", None),
            ("1x", None),
            ("1 ", None),
        ] {
            assert_eq!(nano_cpus(text), expected, "{text}");
        }
        assert!(nano_cpus("9999999999999999999999999999999999999999999999E").is_some());
    }
}
