//! Where results go: the two streams, and columns that line up. Decides layout, never content.

use std::io::Write;

use crate::cli::OutputForm;
use crate::failure::Failure;

/// Spaces between columns.
const GAP: usize = 2;

/// The streams of a run, and for whom it writes.
pub(crate) struct Output<'a, O: Write, E: Write> {
    form: OutputForm,
    out: &'a mut O,
    err: &'a mut E,
}

impl<'a, O: Write, E: Write> Output<'a, O, E> {
    pub(crate) fn new(form: OutputForm, out: &'a mut O, err: &'a mut E) -> Self {
        Self { form, out, err }
    }

    pub(crate) fn form(&self) -> OutputForm {
        self.form
    }

    /// Writes a result: the node's JSON for programs, else what `table` makes of it.
    pub(crate) fn result(&mut self, json: &str, table: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.form {
            OutputForm::Json => self.text(json),
            OutputForm::Table => self.text(&table()),
        }
    }

    /// Writes `text` as it is, with one line end after it; nothing for no text.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        let text = text.trim_end_matches('\n');
        if !text.is_empty() {
            self.out.write_all(format!("{text}\n").as_bytes())?;
        }
        Ok(self.out.flush()?)
    }

    /// Tells people something that is no result. Nobody listening is no reason to stop.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.err, "note: {}", clean(text));
    }
}

/// `text` without control characters: what a node or a file says does not reach the terminal as commands.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Rows under a header in columns of equal width; no blanks at line ends.
pub(crate) fn columns<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = std::iter::once(header.map(str::to_owned))
        .chain(rows.iter().map(|row| row.each_ref().map(|c| clean(c))))
        .collect();
    let widths: [usize; N] = std::array::from_fn(|n| {
        rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<0$}", width + GAP));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_trailing_blanks() {
        let rows = [["a".into(), "1".into(), String::new()], ["long\x1bname".into(), "22".into(), "x".into()]];
        assert_eq!(columns(["NAME", "N", "C"], &rows), "NAME       N   C\na          1\nlong name  22  x\n");
    }
}
