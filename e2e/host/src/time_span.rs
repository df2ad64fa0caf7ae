//! Times in the .NET form that host.json uses.

use std::fmt::Write as _;
use std::time::Duration;

/// A .NET TimeSpan that is not negative: `[d.]hh:mm[:ss[.fffffff]]`. A bare number is days.
pub fn parse_time_span(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (days, clock) = match (text.find('.'), text.find(':')) {
        (_, None) => return Some(Duration::from_secs(text.parse::<u64>().ok()? * 86_400)),
        (Some(dot), Some(colon)) if dot < colon => {
            (text[..dot].parse::<u64>().ok()?, &text[dot + 1..])
        }
        _ => (0, text),
    };
    let mut parts = clock.split(':');
    let hours = parts.next()?.parse::<u64>().ok()?;
    let minutes = parts.next()?.parse::<u64>().ok()?;
    let seconds = parts.next().unwrap_or("0");
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let whole = whole.parse::<u64>().ok()?;
    if parts.next().is_some()
        || hours > 23
        || minutes > 59
        || whole > 59
        || fraction.is_empty()
        || fraction.len() > 7
    {
        return None;
    }
    let ticks = format!("{fraction:0<9}").parse::<u32>().ok()?;
    Some(Duration::new(
        days * 86_400 + hours * 3600 + minutes * 60 + whole,
        ticks,
    ))
}

/// A duration in the .NET form `[d.]hh:mm:ss[.fffffff]`.
pub fn format_time_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let mut text = String::new();
    if seconds >= 86_400 {
        let _ = write!(text, "{}.", seconds / 86_400);
    }
    let _ = write!(
        text,
        "{:02}:{:02}:{:02}",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    );
    let ticks = span.subsec_nanos() / 100;
    if ticks > 0 {
        let _ = write!(text, ".{ticks:07}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans() {
        for (text, milliseconds) in [
            ("00:00:02", Some(2_000)),
            ("00:00:00.5", Some(500)),
            ("1.00:00:00", Some(86_400_000)),
            ("01:30", Some(5_400_000)),
            ("2", Some(172_800_000)),
            ("24:00:00", None),
            ("00:60:00", None),
            ("soon", None),
        ] {
            let parsed = parse_time_span(text).map(|span| span.as_millis());
            assert_eq!(parsed, milliseconds, "{text}");
        }
        assert_eq!(format_time_span(Duration::from_mins(1)), "00:01:00");
        assert_eq!(
            format_time_span(Duration::from_millis(86_400_500)),
            "1.00:00:00.5000000"
        );
    }
}
