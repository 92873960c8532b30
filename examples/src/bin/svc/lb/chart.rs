//! The distribution as a picture: a bar for each backend, and a mark where it should end.

use std::fmt::Write as _;

use super::simulation::Report;

/// Columns of the widest bar in the terminal.
const COLUMNS: f64 = 40.0;

/// A bar in eighths of a column, with a mark at the ideal share.
pub(super) fn bar(share: f64, ideal: f64, widest: f64) -> String {
    let scale = if widest > 0.0 { COLUMNS / widest } else { 0.0 };
    let eighths = (share * scale * 8.0).round() as usize;
    let mark = ((ideal * scale).round() as usize).clamp(1, COLUMNS as usize) - 1;
    let columns = (eighths.div_ceil(8)).max(mark + 1);
    (0..columns)
        .map(|column| match (column == mark, eighths.saturating_sub(column * 8)) {
            // On a full column the mark shows as a gap's edge, else as a line.
            (true, 8..) => '▓',
            (true, _) => '│',
            (false, 8..) => '█',
            (false, part) => [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][part],
        })
        .collect()
}

/// The same as a stand-alone SVG: bars by share, ticks by ideal share.
pub(super) fn svg(report: &Report) -> String {
    const WIDTH: f64 = 960.0;
    const HEIGHT: f64 = 360.0;
    const LEFT: f64 = 56.0;
    const TOP: f64 = 48.0;
    const BOTTOM: f64 = 40.0;
    let widest = report.backends.iter().map(|row| row.share.max(row.ideal)).fold(f64::MIN_POSITIVE, f64::max);
    let step = (WIDTH - LEFT - 16.0) / report.backends.len().max(1) as f64;
    let height = |share: f64| share / widest * (HEIGHT - TOP - BOTTOM);
    let base = HEIGHT - BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\" fill=\"#222\">{}: {} requests over {} backends</text>\n\
         <text x=\"{LEFT}\" y=\"40\" fill=\"#666\">bar: share of requests, line: ideal share by weight; \
         Jain's index {:.4}</text>\n",
        report.scheduler,
        report.requests,
        report.backends.len(),
        report.fairness.jain,
    );
    for part in [0.0, 0.5, 1.0] {
        let y = base - height(widest * part);
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{:.1} %</text>",
            WIDTH - 16.0,
            LEFT - 6.0,
            y + 4.0,
            widest * part * 100.0,
        );
    }
    for (index, row) in report.backends.iter().enumerate() {
        let x = LEFT + step * index as f64;
        let (bar, ideal) = (height(row.share), base - height(row.ideal));
        let width = (step * 0.8).max(0.5);
        let _ = writeln!(
            svg,
            "<g><title>{}, weight {}: {} requests, {:.2} %</title>\
             <rect x=\"{x:.2}\" y=\"{:.2}\" width=\"{width:.2}\" height=\"{bar:.2}\" fill=\"#326ce5\"/>\
             <line x1=\"{x:.2}\" x2=\"{:.2}\" y1=\"{ideal:.2}\" y2=\"{ideal:.2}\" stroke=\"#e07020\" \
             stroke-width=\"2\"/></g>",
            row.address,
            row.weight,
            row.requests,
            row.share * 100.0,
            base - bar,
            x + width,
        );
        if step >= 60.0 {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\" font-size=\"{}\">{}</text>",
                x + width / 2.0,
                base + 18.0,
                if step >= 90.0 { 11 } else { 8 },
                row.address,
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_end_at_their_share_and_mark_the_ideal() {
        assert_eq!(bar(0.5, 0.5, 1.0).chars().filter(|column| *column == '█').count(), 19);
        assert!(bar(0.5, 0.5, 1.0).ends_with('▓'));
        assert!(bar(0.1, 0.5, 1.0).ends_with('│'));
        assert_eq!(bar(0.0, 0.0, 0.0), "│");
    }
}
