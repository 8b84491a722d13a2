//! Words on lines: breaking, padding, counts and sizes.

use crate::report::output::Style;
use unicode_width::UnicodeWidthStr;

/// "1 entry", "2 entries".
#[must_use]
pub fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// "8.0 GiB".
#[must_use]
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if size < 1024 {
        return format!("{size} bytes");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = size as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Breaks at blanks so that lines fit; a word that is longer than the line stays whole, so that it can be copied.
pub(super) fn wrap(text: &str, first: usize, rest: usize, style: Style) -> String {
    let mut out = " ".repeat(first);
    let mut column = first;
    let mut fresh = true;
    for word in text.split(' ') {
        let width = visible_width(word);
        if !fresh && column + 1 + width > style.columns {
            out.push('\n');
            out.push_str(&" ".repeat(rest));
            column = rest;
            fresh = true;
            if word.is_empty() {
                continue;
            }
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
        fresh = false;
    }
    out
}

pub(super) fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Columns of a word, the escape sequences of [`Style::paint`] left out.
pub(super) fn visible_width(word: &str) -> usize {
    let mut width = 0;
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        width += before.width();
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    width + rest.width()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false, columns: 40 };

    #[test]
    fn lines_break_at_blanks_and_keep_their_indent() {
        let text = wrap("one two three four five six seven eight nine ten eleven", 2, 4, PLAIN);
        assert!(text.lines().all(|line| line.len() <= 40), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("    "));
    }

    #[test]
    fn colours_have_no_width() {
        let style = Style { colour: true, columns: 80 };
        assert_eq!(visible_width(&style.paint(crate::report::text::RED, "NO")), 2);
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        assert_eq!(bytes(512), "512 bytes");
        assert_eq!(bytes(8 << 30), "8.0 GiB");
    }
}
