//! Texts of others, cut to what may be stored.

/// A text of at most `limit` bytes; what was cut off is shown by dots.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    const DOTS: &str = "...";
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit.saturating_sub(DOTS.len()))
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0);
    format!("{}{DOTS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "lo...");
        assert_eq!(cut("ääää", 6), "ä...");
    }
}
