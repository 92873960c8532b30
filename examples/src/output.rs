//! Printing results: aligned tables for people, JSON or YAML for machines.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::Serialize;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned text for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// YAML.
    Yaml,
}

/// Good news.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Bad news.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something to look at.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Secondary text.
pub const DIM: Style = Style::new().dimmed();
/// Headings.
pub const BOLD: Style = Style::new().bold();

/// Text in a style. Colour codes are stripped by the stream where the output is no terminal.
pub fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// An aligned table without borders, as kubectl prints it. Cells may be styled.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(|text| styled(BOLD, text)).to_vec()] }
    }

    /// Adds columns whose number is known only now; before the first row.
    pub fn extend_header(&mut self, header: impl IntoIterator<Item = String>) {
        if let Some(row) = self.rows.first_mut() {
            row.extend(header.into_iter().map(|text| styled(BOLD, text)));
        }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.row_of(cells.into());
    }

    /// Adds a row whose length is known only now.
    pub fn row_of(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// True if the table has no row but its headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// Writes the table, every column as wide as its widest cell, without trailing blanks.
    ///
    /// # Errors
    ///
    /// If the stream can't be written.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns)
            .map(|i| self.rows.iter().filter_map(|row| row.get(i)).map(|cell| width(cell)).max().unwrap_or(0))
            .collect();
        for row in &self.rows {
            let last = row.iter().rposition(|cell| width(cell) > 0).unwrap_or(0);
            for (i, cell) in row.iter().take(last + 1).enumerate() {
                let gap = if i < last { widths[i] - width(cell) + 3 } else { 0 };
                write!(out, "{cell}{:gap$}", "")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// How many columns of the terminal a cell takes, its colour codes left out.
fn width(cell: &str) -> usize {
    anstream::adapter::strip_str(cell).map(|part| part.chars().count()).sum()
}

/// Writes a result for machines.
///
/// # Errors
///
/// If the stream can't be written.
pub fn write_data(out: &mut dyn Write, format: Format, data: &impl Serialize) -> anyhow::Result<()> {
    match format {
        Format::Yaml => write!(out, "{}", serde_saphyr::to_string(data)?)?,
        Format::Json | Format::Table => {
            serde_json::to_writer_pretty(&mut *out, data)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_their_style() {
        let mut table = Table::new(["A", "B", "C"]);
        table.row([styled(GOOD, "long"), "x".into(), String::new()]);
        table.row(["é".into(), String::new(), "z".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let plain = anstream::adapter::strip_bytes(&out).into_vec();
        assert_eq!(String::from_utf8(plain).unwrap(), "A      B   C\nlong   x\né          z\n");
    }
}
