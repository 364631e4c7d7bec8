//! Charts as inline SVG, drawn by hand: no script, no outside file. Colours are CSS classes `s0` to
//! `s5`, so that the page chooses them for dark, light and paper.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 36.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 14.0;
/// Colours there are.
const COLOURS: usize = 6;

/// One named line: points in ascending order of `x`.
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// The points.
    pub points: Vec<(f64, f64)>,
}

/// One bar.
pub struct Bar {
    /// What stands before it.
    pub name: String,
    /// How long it is.
    pub value: f64,
    /// The value's interval, where there is one.
    pub interval: Option<(f64, f64)>,
    /// Number of its colour; those of equal brokers are equal.
    pub colour: usize,
}

/// What stands along the axes.
pub struct Axes<'a> {
    /// What `x` is, with its unit.
    pub x: &'a str,
    /// Labelled places of `x`; empty to have them chosen.
    pub ticks: Vec<(f64, String)>,
    /// How a value of `y` is written.
    pub y: fn(f64) -> String,
    /// Whether `y` is logarithmic; then no value may be zero.
    pub log: bool,
}

/// Text that may stand in HTML and in attributes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Lines over common axes, with a legend.
pub fn lines(title: &str, all: &[Line], axes: &Axes<'_>) -> String {
    let points = || all.iter().flat_map(|line| &line.points);
    if points().next().is_none() {
        return String::new();
    }
    let ends = |pick: fn(&(f64, f64)) -> f64| {
        let values = points().map(pick);
        values.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)))
    };
    let (x_low, x_high) = ends(|point| point.0);
    let (y_low, y_high) = ends(|point| point.1);
    let scale = Scale::new(y_low, y_high, axes.log);
    let at_x = |x: f64| LEFT + (x - x_low) / (x_high - x_low).max(1e-9) * (WIDTH - LEFT - RIGHT);
    let mut svg = open(title);
    for value in scale.ticks() {
        grid(&mut svg, scale.at(value), &(axes.y)(value));
    }
    let ticks = if axes.ticks.is_empty() { spread(x_low, x_high) } else { axes.ticks.clone() };
    for (x, label) in ticks {
        let _ = write!(
            svg,
            "<text class=tick text-anchor=middle x={:.1} y={:.1}>{}</text>",
            at_x(x),
            HEIGHT - BOTTOM + 15.0,
            escape(&label)
        );
    }
    for (at, line) in all.iter().enumerate() {
        let mut path = String::new();
        for (x, y) in &line.points {
            let _ = write!(path, "{:.1},{:.1} ", at_x(*x), scale.at(*y));
        }
        let dash = if at < COLOURS { "" } else { " stroke-dasharray=4" };
        let class = at % COLOURS;
        let _ = write!(svg, "<polyline class=s{class}{dash} points=\"{}\"/>", path.trim_end());
    }
    let (middle, low) = (f64::midpoint(LEFT, WIDTH), HEIGHT - 4.0);
    let x = escape(axes.x);
    let _ = write!(svg, "<text class=tick text-anchor=middle x={middle} y={low}>{x}</text></svg>");
    figure(title, &svg, all.iter().map(|line| line.name.as_str()))
}

/// One bar for each name; each may have an interval, and `mark` is where a line is drawn.
pub fn bars(title: &str, bars: &[Bar], told: fn(f64) -> String, mark: Option<f64>) -> String {
    let ends = bars.iter().map(|bar| bar.interval.map_or(bar.value, |(_, high)| high));
    let largest = ends.chain(mark).fold(0.0, f64::max);
    if largest <= 0.0 {
        return String::new();
    }
    let (left, row) = (200.0, 26.0);
    let height = row * bars.len() as f64 + 6.0;
    let at = |value: f64| left + value / largest * (WIDTH - left - 110.0);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=img aria-label=\"");
    svg += &escape(title);
    svg += "\">";
    for (number, Bar { name, value, interval, colour }) in bars.iter().enumerate() {
        let (y, width) = (number as f64 * row + 5.0, at(*value) - left);
        let (middle, end) = (y + 13.0, interval.map_or(at(*value), |(_, high)| at(high)) + 6.0);
        let _ = write!(
            svg,
            "<text x=192 y={middle} text-anchor=end>{}</text>\
             <rect class=s{} x={left} y={y} width={width:.1} height=18 rx=2></rect>\
             <text class=value x={end:.1} y={middle}>{}</text>",
            escape(name),
            colour % COLOURS,
            told(*value),
        );
        if let Some((low, high)) = interval {
            let (low, high, y, top) = (at(*low), at(*high), y + 9.0, y + 4.0);
            let _ = write!(
                svg,
                "<path class=interval d=\"M{low:.1} {y}H{high:.1}M{low:.1} {top}v10M{high:.1} \
                 {top}v10\"/>",
            );
        }
    }
    if let Some(mark) = mark {
        let _ = write!(svg, "<path class=mark d=\"M{:.1} 0V{height}\"/>", at(mark));
    }
    figure(title, &(svg + "</svg>"), std::iter::empty())
}

fn open(title: &str) -> String {
    let title = escape(title);
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{title}\">")
}

fn grid(svg: &mut String, y: f64, label: &str) {
    let (right, text) = (WIDTH - RIGHT, y + 4.0);
    let _ = write!(
        svg,
        "<path class=grid d=\"M{LEFT} {y:.1}H{right}\"/>\
         <text class=tick text-anchor=end x={:.1} y={text:.1}>{}</text>",
        LEFT - 6.0,
        escape(label)
    );
}

fn figure<'a>(title: &str, svg: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut legend = String::new();
    for (at, name) in names.enumerate() {
        let class = at % COLOURS;
        let _ = write!(legend, "<span><i class=s{class}></i>{}</span>", escape(name));
    }
    let title = escape(title);
    format!("<figure><figcaption>{title}</figcaption>{svg}<p class=legend>{legend}</p></figure>\n")
}

fn spread(low: f64, high: f64) -> Vec<(f64, String)> {
    let step = step(high - low).max(1.0);
    let count = ((high - low) / step) as usize;
    let first = (low / step).ceil() * step;
    let places = (0..=count).map(|at| first + at as f64 * step);
    places.filter(|x| *x <= high + 1e-9).map(|x| (x, format!("{x}"))).collect()
}

/// A round step that cuts a span into four to ten.
fn step(span: f64) -> f64 {
    let power = 10f64.powf((span / 4.0).log10().floor());
    let times = [5.0, 2.0].into_iter().find(|times| span / (power * times) >= 4.0);
    power * times.unwrap_or(1.0)
}

/// Values of `y` to places on the chart.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    fn new(low: f64, high: f64, log: bool) -> Scale {
        if log {
            let low = 10f64.powf(low.max(1.0).log10().floor());
            let high = 10f64.powf(high.max(10.0).log10().ceil()).max(low * 10.0);
            return Scale { low, high, log };
        }
        let high = if high > 0.0 { (high / step(high)).ceil() * step(high) } else { 1.0 };
        Scale { low: 0.0, high, log }
    }

    fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            value / self.high
        };
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.high / self.low).log10().round() as i32;
            return (0..=decades).map(|decade| self.low * 10f64.powi(decade)).collect();
        }
        let step = step(self.high);
        (0..=(self.high / step).round() as usize).map(|at| at as f64 * step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_covers_its_values_with_round_ticks() {
        let linear = Scale::new(3.0, 870.0, false);
        assert_eq!(linear.ticks(), [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]);
        assert_eq!((linear.at(0.0), linear.at(1000.0)), (HEIGHT - BOTTOM, TOP));
        let log = Scale::new(30_000.0, 4e6, true);
        assert_eq!(log.ticks(), [1e4, 1e5, 1e6, 1e7]);
        assert!((log.at(1e4) - (HEIGHT - BOTTOM)).abs() < 1e-9);
    }

    #[test]
    fn names_are_escaped_and_nothing_draws_nothing() {
        let bar = Bar { name: "<b>".into(), value: 2.0, interval: None, colour: 0 };
        let drawn = bars("t", &[bar], |value| value.to_string(), None);
        assert!(drawn.contains("&lt;b&gt;") && !drawn.contains("<b>"));
        let axes = Axes { x: "s", ticks: Vec::new(), y: |value| value.to_string(), log: false };
        assert_eq!(lines("t", &[], &axes), "");
    }
}
