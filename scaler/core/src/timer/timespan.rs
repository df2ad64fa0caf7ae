//! The text form of a .NET `TimeSpan`, as far as `TimeSpan.TryParse` accepts it in the invariant culture.
//!
//! Numbers separated by `:` and `.`; surrounding white space and one leading `-` are allowed:
//!
//! | numbers | forms, first match in range wins |
//! |---|---|
//! | 1 | `d` |
//! | 2 | `h:m` |
//! | 3 | `h:m:s`, `d.h:m`, `h:m:.f`, `d:h:m` |
//! | 4 | `h:m:s.f`, `d.h:m:s`, `d.h:m:.f`, `d:h:m:s`, `d:h:m:.f` |
//! | 5 | `d.h:m:s.f`, `d:h:m:s.f` |
//!
//! So `24:00:00` is 24 days: 24 is no hour, and `d:h:m` is the next form that fits.

/// Units of 100 ns, as .NET counts time.
pub const TICKS_PER_SECOND: i64 = 10_000_000;

const MAX_DAYS: u32 = 10_675_199;

#[derive(Clone, Copy, Default)]
struct Number {
    value: u32,
    leading_zeros: u32,
}

/// The length in units of 100 ns, or `None` when the text is no time span or its length does not fit.
pub fn parse_timespan(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (numbers, separators) = split(body)?;
    let shapes: &[(&str, &str)] = match numbers.len() {
        1 => &[("", "d")],
        2 => &[(":", "hm")],
        3 => &[("::", "hms"), (".:", "dhm"), (":;", "hmf"), ("::", "dhm")],
        4 => &[
            ("::.", "hmsf"),
            (".::", "dhms"),
            (".:;", "dhmf"),
            (":::", "dhms"),
            ("::;", "dhmf"),
        ],
        5 => &[(".::.", "dhmsf"), (":::.", "dhmsf")],
        _ => return None,
    };
    shapes
        .iter()
        .filter(|(seen, _)| *seen == separators)
        .find_map(|(_, parts)| ticks(parts, &numbers, negative))
}

/// Cuts the text into numbers and the separators between them; `:.` (a fraction without seconds) is noted as `;`.
fn split(body: &str) -> Option<(Vec<Number>, String)> {
    let mut numbers = Vec::new();
    let mut separators = String::new();
    let mut rest = body;
    loop {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let digits = &rest[..end];
        let significant = digits.trim_start_matches('0');
        // A number of more than nine digits cannot be in range of any part.
        if digits.is_empty() || significant.len() > 9 {
            return None;
        }
        numbers.push(Number {
            value: significant.parse().unwrap_or(0),
            leading_zeros: (digits.len() - significant.len()) as u32,
        });
        rest = &rest[end..];
        if rest.is_empty() {
            return Some((numbers, separators));
        }
        let (separator, length) = if rest.starts_with(":.") {
            (';', 2)
        } else if rest.starts_with([':', '.']) {
            (rest.chars().next()?, 1)
        } else {
            return None;
        };
        separators.push(separator);
        rest = &rest[length..];
    }
}

fn ticks(parts: &str, numbers: &[Number], negative: bool) -> Option<i64> {
    let (mut seconds, mut fraction) = (0_i128, 0_i128);
    for (part, number) in parts.chars().zip(numbers) {
        let (limit, unit) = match part {
            'd' => (MAX_DAYS, 86_400),
            'h' => (23, 3_600),
            'm' => (59, 60),
            's' => (59, 1),
            _ => {
                fraction = i128::from(fraction_ticks(*number)?);
                continue;
            }
        };
        if number.value > limit {
            return None;
        }
        seconds += i128::from(number.value) * unit;
    }
    let total = seconds * i128::from(TICKS_PER_SECOND) + fraction;
    i64::try_from(if negative { -total } else { total }).ok()
}

/// The digits after the point in units of 100 ns; what goes beyond seven digits is rounded.
fn fraction_ticks(number: Number) -> Option<u32> {
    if number.value == 0 {
        return Some(0);
    }
    if number.leading_zeros == 0 && number.value > 9_999_999 {
        return None;
    }
    let digits = number.value.ilog10() + 1 + number.leading_zeros;
    if digits <= 7 {
        return Some(number.value * 10_u32.pow(7 - digits));
    }
    let divisor = 10_u64.checked_pow(digits - 7)?;
    Some(((u64::from(number.value) + divisor / 2) / divisor) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_limits() {
        let second = TICKS_PER_SECOND;
        for (text, expected) in [
            ("6", Some(6 * 86_400 * second)),
            (" 00:01 ", Some(60 * second)),
            ("1.02:03", Some((86_400 + 2 * 3600 + 180) * second)),
            ("24:00:00", Some(24 * 86_400 * second)),
            ("1:02:03:04", Some((86_400 + 2 * 3600 + 184) * second)),
            ("-00:01:00", Some(-60 * second)),
            ("00:00:00.5", Some(second / 2)),
            ("00:00:00.05", Some(second / 20)),
            ("00:00:00.00000005", Some(1)),
            ("0:0:.5", Some(second / 2)),
            ("1.0:0:.5", Some(86_400 * second + second / 2)),
            (
                "1.02:03:04.5",
                Some((86_400 + 2 * 3600 + 184) * second + second / 2),
            ),
            ("25:00", None),
            ("00:00:00.99999999", None),
            ("- 5", None),
            ("1 : 2", None),
            ("+5", None),
            ("1:2:3:4:5", None),
            ("5.", None),
            (":5", None),
            ("", None),
            ("-", None),
            ("99999999999", None),
            ("-10675199.02:48:05.4775808", Some(i64::MIN)),
            ("10675199.02:48:05.4775808", None),
        ] {
            assert_eq!(parse_timespan(text), expected, "{text:?}");
        }
    }
}
