//! Growth with size, ours beside the reference: one SVG for each kind of work, both axes logarithmic.

use std::fmt::Write;
use std::path::Path;

use super::{Timings, median};

/// Writes a plot for each work that has at least two sizes on both sides; returns their names.
pub(crate) fn all(folder: &Path, reference: &Timings, ours: &Timings) -> Result<Vec<String>, String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut works: Vec<&str> = reference.keys().filter_map(|name| Some(name.rsplit_once('/')?.0)).collect();
    works.dedup();
    let mut names = Vec::new();
    for work in works {
        let lines = [points(reference, work), points(ours, work)];
        // A selector's number is of requirements, not of a cluster's size.
        if work.starts_with("selector/") || lines.iter().any(|line| line.len() < 2) {
            continue;
        }
        let name = format!("{}.svg", work.replace(['/', ' '], "-"));
        let path = folder.join(&name);
        std::fs::write(&path, svg(work, &lines)).map_err(|error| format!("{}: {error}", path.display()))?;
        names.push(name);
    }
    Ok(names)
}

fn points(timings: &Timings, work: &str) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = timings
        .iter()
        .filter_map(|(name, values)| {
            let (of, size) = name.rsplit_once('/')?;
            (of == work).then_some(())?;
            Some((size.parse().ok()?, median(values)))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const MARGIN: f64 = 60.0;

fn svg(title: &str, lines: &[Vec<(f64, f64)>; 2]) -> String {
    let all = || lines.iter().flatten();
    let range = |of: fn(&(f64, f64)) -> f64| {
        let low = all().map(of).fold(f64::INFINITY, f64::min).log10().floor();
        let high = all().map(of).fold(0.0, f64::max).log10().ceil();
        (low, high.max(low + 1.0))
    };
    let ((left, right), (bottom, top)) = (range(|point| point.0), range(|point| point.1));
    let x = |value: f64| MARGIN + (value.log10() - left) / (right - left) * (WIDTH - 2.0 * MARGIN);
    let y =
        |value: f64| HEIGHT - MARGIN - (value.log10() - bottom) / (top - bottom) * (HEIGHT - 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"30\" font-size=\"16\">{title}</text>\n"
    );
    for power in bottom as i32..=top as i32 {
        let at = y(10f64.powi(power));
        let label = super::report::time(10f64.powi(power));
        let _ = writeln!(
            out,
            "<path d=\"M{MARGIN} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            WIDTH - MARGIN,
            MARGIN - 6.0,
            at + 4.0
        );
    }
    for power in left as i32..=right as i32 {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(10f64.powi(power)),
            HEIGHT - MARGIN + 20.0,
            10f64.powi(power)
        );
    }
    for (line, (name, colour)) in lines.iter().zip([("reference", "#b44"), ("this project", "#27c")]) {
        let path: Vec<String> =
            line.iter().map(|(size, time)| format!("{:.1} {:.1}", x(*size), y(*time))).collect();
        let _ = writeln!(
            out,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join("L")
        );
        if let Some((size, time)) = line.last() {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>",
                x(*size),
                y(*time) - 8.0
            );
        }
    }
    out + "</svg>\n"
}
