//! Lines over the size of the cluster, on logarithmic axes: a line of slope one grows with n, of slope two with its square.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use plotters::prelude::*;
use quorate_crypto::Protocol;

use super::{Figure, Row, Situation};

const SIZE: (u32, u32) = (860, 560);
const PBFT: RGBColor = RGBColor(0x1f, 0x5f, 0xbf);
const HOTSTUFF: RGBColor = RGBColor(0xd1, 0x49, 0x2e);

/// Writes one file a figure into `directory`, which is made if it is not there.
///
/// # Errors
/// A file cannot be written.
pub fn write(directory: &Path, rows: &[Row]) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory).map_err(|error| anyhow!("cannot make {}: {error}", directory.display()))?;
    let mut written = Vec::new();
    for figure in Figure::ALL {
        let path = directory.join(format!("{}.svg", figure.name()));
        let svg = draw(figure.line(), &[Situation::FaultFree, Situation::Silent], figure, rows)?;
        written.push(save(path, &svg)?);
    }
    let path = directory.join("view-change-bytes.svg");
    let svg = draw("bytes of a view change", &[Situation::LeaderDies], Figure::Bytes, rows)?;
    written.push(save(path, &svg)?);
    Ok(written)
}

fn save(path: PathBuf, svg: &str) -> anyhow::Result<PathBuf> {
    std::fs::write(&path, svg).map_err(|error| anyhow!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

fn draw(title: &str, situations: &[Situation], figure: Figure, rows: &[Row]) -> anyhow::Result<String> {
    let points = |protocol: Protocol, situation: Situation| {
        let of = rows.iter().filter(move |row| row.protocol == protocol && row.situation == situation);
        of.filter_map(|row| Some((row.replicas as f64, figure.of(row)?))).collect::<Vec<(f64, f64)>>()
    };
    let all: Vec<(f64, f64)> = Protocol::ALL
        .into_iter()
        .flat_map(|protocol| situations.iter().flat_map(move |situation| points(protocol, *situation)))
        .collect();
    let least = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).fold(0.0, f64::max);
    let (x, y): (fn(&(f64, f64)) -> f64, fn(&(f64, f64)) -> f64) = (|point| point.0, |point| point.1);
    let mut sizes: Vec<f64> = all.iter().map(x).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let mut svg = String::new();
    if all.is_empty() {
        return Ok(svg);
    }
    {
        let failed = |error: DrawingAreaErrorKind<std::io::Error>| anyhow!("cannot draw {title}: {error}");
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 22))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(60)
            .build_cartesian_2d(
                (least(x) * 0.9..most(x) * 1.1).log_scale().with_key_points(sizes),
                (least(y) * 0.5..most(y) * 2.0).log_scale().with_key_points(ticks(least(y) * 0.5, most(y) * 2.0)),
            )
            .map_err(failed)?;
        let label = |number: &f64| match *number {
            n if n >= 1e6 => format!("{:.0} M", n / 1e6),
            n if n >= 1e3 => format!("{:.0} k", n / 1e3),
            n if n < 10.0 => format!("{n:.1}"),
            n => format!("{n:.0}"),
        };
        chart
            .configure_mesh()
            .x_desc("replicas")
            .x_label_formatter(&|replicas| format!("{replicas:.0}"))
            .y_label_formatter(&label)
            .light_line_style(RGBColor(0xee, 0xee, 0xee))
            .label_style(("sans-serif", 15))
            .draw()
            .map_err(failed)?;
        for (protocol, colour) in [(Protocol::Pbft, PBFT), (Protocol::HotStuff, HOTSTUFF)] {
            for situation in situations {
                let line = points(protocol, *situation);
                let name = format!("{protocol}, {}", situation.name());
                let width = if *situation == Situation::Silent { 1 } else { 3 };
                let style = colour.stroke_width(width);
                chart
                    .draw_series(LineSeries::new(line.clone(), style))
                    .map_err(failed)?
                    .label(name)
                    .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 24, y)], style));
                let dots = line.into_iter().map(|point| Circle::new(point, 4, colour.filled()));
                chart.draw_series(dots).map_err(failed)?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(0xcc, 0xcc, 0xcc))
            .label_font(("sans-serif", 15))
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// One, two and five times the powers of ten between `least` and `most`.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let powers = least.log10().floor() as i32..=most.log10().ceil() as i32;
    let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
    all.filter(|tick| (least..=most).contains(tick)).collect()
}
